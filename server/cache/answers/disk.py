"""Exact answers on disk, and the two threads that all disk work of the caches runs on.

One thread reads and one writes, so that an answer is not kept waiting by gigabytes that are being
written. Nothing here is ever in a request's way for longer than a read takes; what fails is
counted, logged once, and the caches go on without.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from mlxdeck.server.cache.answers.codec import Damaged, decode, encode
from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.answers.memory import Answer, counted, remaining_s
from mlxdeck.server.cache.cache_keys import request_of
from mlxdeck.server.cache.cache_stats import CacheStats, Counts
from mlxdeck.server.cache.sqlite_index import SqliteIndex

log = logging.getLogger(__name__)

T = TypeVar("T")


class Disk:
    """A database with a thread to read and a thread to write."""

    def __init__(self, database: SqliteIndex) -> None:
        self.database = database
        self.errors = 0
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="disk-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk-write")
        self._failing = False

    async def read(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Do something on the reading thread; `default` if that fails."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._guarded, work, default)

    def write(self, work: Callable[[sqlite3.Connection], object]) -> Future[object]:
        """Do something on the writing thread, in the background."""
        return self._writer.submit(self._guarded, work, None)

    def _guarded(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        try:
            with self.database.begin() as connection:
                result = work(connection)
        except (sqlite3.Error, OSError) as error:
            self.errors += 1
            if not self._failing:
                self._failing = True
                log.warning("the caches on disk do not work: %s", error)
            return default
        self._failing = False
        return result

    @property
    def working(self) -> bool:
        """Whether the last thing it was asked to do worked."""
        return not self._failing

    def close(self) -> None:
        """Finish what is being written, and let go."""
        self._writer.shutdown()
        self._reader.shutdown(cancel_futures=True)
        self.database.close()


class _Known(NamedTuple):
    """What of a stored answer is known without reading it."""

    n_bytes: int
    made_s: float


class DiskAnswers:
    """The `Tier` of this machine's disk. For the event loop."""

    name = "disk"

    def __init__(self, disk: Disk, max_bytes: int, max_age_s: float = 0.0) -> None:
        """`max_age_s` of 0 is no limit."""
        self._disk = disk
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._known: dict[str, _Known] = {}
        self.gone = LossReasons()
        self._unwritten: dict[str, bytes] = {}
        self._requests: Counter[str] = Counter()
        self.n_bytes = 0
        self.tally = CacheStats()
        # What is known may lag behind another process on the same folder; a miss is all it costs.
        with disk.database.begin() as connection:
            for key, *known in connection.execute(
                "select key, n_bytes, made_s from answers order by used_s"
            ):
                self._learn(key, _Known(*known))

    def __len__(self) -> int:
        return len(self._known)

    def knows_request(self, request: str) -> bool:
        """Whether any model's answer to the request is here."""
        return self._requests[request] > 0

    def _learn(self, key: str, known: _Known) -> None:
        self._forget(key)
        self.gone.back(key)
        self._known[key] = known
        self._requests[request_of(key)] += 1
        self.n_bytes += known.n_bytes

    def _forget(self, key: str) -> None:
        if key in self._known:
            self.n_bytes -= self._known.pop(key).n_bytes
            self._requests[request_of(key)] -= 1

    async def get(self, key: str) -> Answer | None:
        """Look an answer up; the disk is only touched if it is known to be there."""
        answer = None
        if self._is_old(key):
            self._expire([key])
        if key in self._known:
            body = self._unwritten.get(key)
            if body is None:
                body = await self._disk.read(lambda connection: _body(connection, key), None)
            try:
                answer = decode(body) if body is not None else None
            except Damaged as error:
                log.warning("a stored answer is damaged and removed: %s", error)
                self.tally.evictions["damaged"] += 1
            if answer is None:
                self._remove([key])
        if answer is None:
            self.tally.add(Counts(misses=1))
            return None
        now_s = time.time()
        update = "update answers set used_s = ? where key = ?"
        self._disk.write(lambda c: c.execute(update, (now_s, key)))
        if known := self._known.get(key):
            # Forgotten and learned, so that the least recently used stand first.
            self._learn(key, known)
        self.tally.add(counted(answer))
        return answer

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer in the background, giving up the longest unused for it."""
        body = encode(answer)
        if len(body) > self._max_bytes:
            return
        row = (key, body, len(body), answer.made_s, time.time())
        insert = "insert or replace into answers values (?,?,?,?,?)"
        self._unwritten[key] = body
        writing = self._disk.write(lambda c: c.execute(insert, row))
        writing.add_done_callback(lambda _: self._unwritten.pop(key, None))
        self._learn(key, _Known(len(body), answer.made_s))
        evicted = []
        n_bytes = self.n_bytes
        for old, known in self._known.items():
            if n_bytes <= self._max_bytes:
                break
            evicted.append(old)
            n_bytes -= known.n_bytes
        if evicted:
            self.tally.evictions["room"] += len(evicted)
            self._remove(evicted, "evicted")

    def expire(self) -> None:
        """Drop what has become too old."""
        if old := [key for key in self._known if self._is_old(key)]:
            self._expire(old)

    def _is_old(self, key: str) -> bool:
        known = self._known.get(key)
        return known is not None and remaining_s(known.made_s, self._max_age_s) <= 0

    def _expire(self, keys: list[str]) -> None:
        self.tally.evictions["expired"] += len(keys)
        self._remove(keys, "expired")

    def _remove(self, keys: list[str], reason: str = "") -> None:
        for key in keys:
            self._forget(key)
            if reason:
                self.gone.add(key, reason)
        rows = [(key,) for key in keys]
        self._disk.write(lambda c: c.executemany("delete from answers where key = ?", rows))

    async def clear(self) -> int:
        """Drop every answer; return how many there were."""
        n = len(self._known)
        self._remove(list(self._known))
        return n


def _body(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute("select body from answers where key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])
