"""Exact answers on disk. All that is known of them is in the database, nothing in RAM.

An answer waits in RAM until it is written, and can be found there; so many bytes may wait. Uses
are noted together, so that a hit writes nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import dataclass

from mlxdeck.server.cache.answers.codec import Damaged, decode, encode
from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.answers.memory import Answer, counted
from mlxdeck.server.cache.cache_keys import request_of
from mlxdeck.server.cache.cache_stats import CacheStats, Counts
from mlxdeck.server.cache.disk_io import DiskIO

MAX_WAITING_BYTES = 64 * 1024**2
"""Answers that wait to be written take so much memory; more are not stored."""
MAX_UNNOTED_USES = 1_000
"""So many uses are noted together; or as many as there were until `tick`."""
_A_FEW = 64


@dataclass(frozen=True, slots=True)
class _Read:
    """The stored answer under a key."""

    answer: Answer | None = None
    is_damaged: bool = False
    has_others: bool = False
    """Another model's answer to the request is there."""


class DiskAnswers:
    """The `Tier` of this machine's disk. For the event loop."""

    name = "disk"

    def __init__(self, disk: DiskIO, max_bytes: int, max_age_s: float = 0.0) -> None:
        """`max_age_s` of 0 is no limit."""
        self._disk = disk
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self.gone = LossReasons()
        self.stats = CacheStats()
        self.dropped = 0
        """Answers that were not stored, because too many waited to be."""
        # Shared with the writing thread, which gets its orders in the order of the calls.
        self._lock = threading.Lock()
        self._waiting: dict[str, Answer] = {}
        self.waiting_bytes = 0
        """Memory of the answers that wait to be written."""
        self._used: dict[str, float] = {}
        self._n_clears = 0
        self._n_cleared = 0
        with disk.database.begin() as connection:
            self._n, self.n_bytes = _totals(connection)
        # The limit may be lower than it was.
        disk.write(self._fit)

    def __len__(self) -> int:
        with self._lock:
            return self._n + len(self._waiting)

    async def get(self, key: str) -> Answer | None:
        """Look an answer up; the miss of one that is damaged or too old removes it."""
        n_clears = self._n_clears
        found = _Read(self._waiting.get(key))
        if found.answer is None and self._n_cleared == n_clears:
            found = await self._disk.read(lambda connection: _read(connection, key), _Read())
        answer = found.answer
        if self._n_clears != n_clears:
            # The row was cleared while it was read; a newer one will be found next time.
            answer = None
        elif found.is_damaged:
            self._remove(key, "damaged")
        elif answer is not None and answer.remaining_s(self._max_age_s) <= 0:
            self._remove(key, "expired")
            answer = None
        elif found.has_others and not self.gone.why(key):
            self.gone.add(key, "model_changed")
        if answer is None:
            self.stats.add(Counts(misses=1))
            return None
        self.used(key)
        self.stats.add(counted(answer))
        return answer

    def used(self, key: str) -> None:
        """An answer was repeated, from here or from a nearer tier: it goes later now."""
        with self._lock:
            self._used[key] = time.time()
            many = len(self._used) >= MAX_UNNOTED_USES
        if many:
            self.tick()

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer in the background, giving up the longest unused for it."""
        with self._lock:
            if self.waiting_bytes + answer.n_bytes > MAX_WAITING_BYTES:
                self.dropped += 1
                return
            if older := self._waiting.pop(key, None):
                self.waiting_bytes -= older.n_bytes
            self._waiting[key] = answer
            self.waiting_bytes += answer.n_bytes
        self.gone.back(key)
        now_s = time.time()
        writing = self._disk.write(lambda connection: self._write(connection, key, answer, now_s))
        # Also if it failed: it doesn't wait any more.
        writing.add_done_callback(lambda _: self._settle(key, answer))

    def _settle(self, key: str, answer: Answer) -> None:
        with self._lock:
            if self._waiting.get(key) is answer:
                del self._waiting[key]
                self.waiting_bytes -= answer.n_bytes

    def tick(self) -> None:
        """Note recent uses."""
        if used := self._take_uses():
            self._disk.write(lambda connection: _note_uses(connection, used))

    def _take_uses(self) -> dict[str, float]:
        with self._lock:
            used, self._used = self._used, {}
        return used

    def expire(self) -> None:
        """Drop answers that are too old."""
        if self._max_age_s:
            self._disk.write(self._expire)

    def _remove(self, key: str, reason: str) -> None:
        if reason == "expired":
            self.gone.add(key, reason)
        self.stats.evictions[reason] += 1
        self._disk.write(lambda connection: self._delete(connection, [(key,)]))

    async def clear(self) -> int:
        """Drop every answer; return how many there were."""
        n = len(self)
        with self._lock:
            self._n_clears += 1
            self._waiting.clear()
            self._used.clear()
            self._n = self.n_bytes = self.waiting_bytes = 0
        self._disk.write(self._clear)
        return n

    # From here on: the writing thread.

    def _write(
        self, connection: sqlite3.Connection, key: str, answer: Answer, used_s: float
    ) -> None:
        with self._lock:
            if self._waiting.get(key) is not answer:
                return  # Cleared, or a newer one waits.
        body = encode(answer, key)
        if len(body) > self._max_bytes:
            self.gone.add(key, "evicted")
            return
        connection.execute("delete from answers where key = ?", (key,))
        row = (key, len(body), answer.made_s, used_s, body)
        connection.execute("insert into answers values (?,?,?,?,?)", row)
        # Behind it: this one may have been used while it waited.
        _note_uses(connection, self._take_uses())
        self._make_room(connection)
        self._settle(key, answer)
        self._count(connection)

    def _fit(self, connection: sqlite3.Connection) -> None:
        self._make_room(connection)
        self._count(connection)
        self._disk.database.shrink(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        excess = _totals(connection)[1] - self._max_bytes
        oldest = (
            "select key, n_bytes from answers indexed by answers_by_use order by used_s limit ?"
        )
        while excess > 0 and (rows := connection.execute(oldest, (_A_FEW,)).fetchall()):
            evicted = []
            for key, n_bytes in rows:
                if excess > 0:
                    excess -= n_bytes
                    evicted.append((key,))
                    self.gone.add(key, "evicted")
            self.stats.evictions["room"] += len(evicted)
            self._delete(connection, evicted)

    def _expire(self, connection: sqlite3.Connection) -> None:
        old = "select key from answers indexed by answers_by_use where made_s < ?"
        keys = connection.execute(old, (time.time() - self._max_age_s,)).fetchall()
        if not keys:
            return
        for (key,) in keys:
            self.gone.add(key, "expired")
        self.stats.evictions["expired"] += len(keys)
        self._delete(connection, keys)

    def _delete(self, connection: sqlite3.Connection, keys: list[tuple[str]]) -> None:
        connection.executemany("delete from answers where key = ?", keys)
        self._count(connection)

    def _clear(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("delete from answers")
            self._count(connection)
            self._disk.database.shrink(connection)
        finally:
            with self._lock:
                self._n_cleared += 1

    def _count(self, connection: sqlite3.Connection) -> None:
        totals = _totals(connection)
        with self._lock:
            if self._n_cleared == self._n_clears:
                self._n, self.n_bytes = totals


def _note_uses(connection: sqlite3.Connection, used: dict[str, float]) -> None:
    rows = [(used_s, key) for key, used_s in used.items()]
    connection.executemany("update answers set used_s = ? where key = ?", rows)


def _totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Number and bytes of the answers of all models."""
    query = "select max(0, cast(n as int)), max(0, cast(n_bytes as int)) from totals"
    row = connection.execute(f"{query} where what = 'answers'").fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _read(connection: sqlite3.Connection, key: str) -> _Read:
    row = connection.execute("select body from answers where key = ?", (key,)).fetchone()
    if row is None:
        request = request_of(key)
        others = "select 1 from answers where key > ? and key < ? limit 1"
        found = connection.execute(others, (request, f"{request}~")).fetchone()
        return _Read(has_others=found is not None)
    try:
        return _Read(decode(row[0], key))
    except Damaged:
        return _Read(is_damaged=True)
