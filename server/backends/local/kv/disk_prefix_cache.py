"""KV states on disk: one safetensors file each, and their tokens in the index.

A state is written once its conversation has been quiet for a moment, by the writing thread, under
a temporary name that is renamed when it is whole. It is read back when a prompt asks for it, after
its checksum has been found right. States of another model are left alone; files that no index
knows, and damaged ones, are removed and counted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlxdeck.server.backends.local.engine.api import State, States
from mlxdeck.server.backends.local.kv.token_bytes import first, n_common, n_tokens
from mlxdeck.server.cache.answers.disk import Disk
from mlxdeck.server.cache.cache_stats import CacheStats

log = logging.getLogger(__name__)

MIN_TOKENS = 64
"""Shorter states are computed faster than they are read."""
QUIET_S = 3.0
"""So long a conversation has to be quiet until its state is written."""
ORPHAN_S = 300.0
"""Files younger than this may be another process's that is about to index them."""
SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Stored:
    """A state on disk."""

    file: str
    tokens: bytes
    shared_tokens: int
    trimmable: bool
    n_bytes: int
    digest: bytes

    def usable(self, wanted: bytes) -> int:
        """How many leading tokens of `wanted` this state can stand for."""
        n = n_common(self.tokens, wanted)
        return n if self.trimmable or n == n_tokens(self.tokens) else 0


@dataclass(frozen=True, slots=True)
class _Pending:
    tokens: bytes
    state: State
    shared_tokens: int
    trimmable: bool
    n_bytes: int
    due_s: float


class DiskPrefixCache:
    """The states of one model on disk. Safe from any thread."""

    def __init__(self, disk: Disk, folder: Path, states: States, signature: str, max_bytes: int):
        """`signature` is of all that decides what a state looks like.

        Raises:
            OSError, sqlite3.Error: There is nothing to be had here.
        """
        self._disk = disk
        self._folder = folder
        self._states = states
        self._signature = signature
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._stored: dict[str, Stored] = {}
        self._pending: dict[bytes, _Pending] = {}
        self.tally = CacheStats()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with disk.database.begin() as connection:
            self._open(connection)

    def _open(self, connection: sqlite3.Connection) -> None:
        columns = "file, tokens, shared_tokens, trimmable, n_bytes, digest, signature"
        known = set()
        for row in connection.execute(f"select {columns} from states order by used_s"):
            file, tokens, shared, trimmable, n_bytes, digest, signature = row
            known.add(file)
            if signature == self._signature:
                self._stored[file] = Stored(file, tokens, shared, bool(trimmable), n_bytes, digest)
        for path in self._folder.iterdir():
            if path.name not in known and time.time() - path.stat().st_mtime > ORPHAN_S:
                log.warning("%s is no state of ours and is removed", path.name)
                path.unlink(missing_ok=True)
                self.tally.evictions["foreign"] += 1

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def n_bytes(self) -> int:
        """Bytes of the files of this model."""
        with self._lock:
            return sum(stored.n_bytes for stored in self._stored.values())

    def offer(self, tokens: bytes, state: State, shared_tokens: int) -> None:
        """Have a state written, once nothing longer has come for a while."""
        if n_tokens(tokens) < MIN_TOKENS:
            return
        trimmable = self._states.trimmable(state)
        n_bytes = self._states.size_bytes(state)
        due_s = time.monotonic() + QUIET_S
        with self._lock:
            if self._covered(tokens, trimmable) or n_bytes > self._max_bytes:
                return
            for old in [p for p in self._pending.values() if p.trimmable and trimmable]:
                if tokens.startswith(old.tokens):
                    del self._pending[old.tokens]
            self._pending[tokens] = _Pending(
                tokens, state, shared_tokens, trimmable, n_bytes, due_s
            )

    def _covered(self, tokens: bytes, trimmable: bool) -> bool:
        return any(
            stored.tokens == tokens
            or (trimmable and stored.trimmable and stored.tokens.startswith(tokens))
            for stored in self._stored.values()
        )

    def write_due(self, *, everything: bool = False) -> None:
        """Begin to write what has been quiet long enough; to be called now and then."""
        now_s = time.monotonic()
        with self._lock:
            due = [p for p in self._pending.values() if everything or p.due_s <= now_s]
            for pending in due:
                del self._pending[pending.tokens]
        for pending in due:
            self._disk.write(self._writing(pending))

    def _writing(self, pending: _Pending) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: self._write(connection, pending)

    def _write(self, connection: sqlite3.Connection, pending: _Pending) -> None:
        key = hashlib.sha256(self._signature.encode() + b"\0" + pending.tokens).hexdigest()
        path = self._folder / f"{key}{SUFFIX}"
        # mlx-lm's writer insists on the suffix.
        draft = self._folder / f".{key}-{os.getpid()}{SUFFIX}"
        try:
            # Made by us first, so that nobody else can read it for a single moment.
            os.close(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
            self._states.save(pending.state, draft)
            digest, n_bytes = checksum(draft), draft.stat().st_size
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
        stored = Stored(
            path.name, pending.tokens, pending.shared_tokens, pending.trimmable, n_bytes, digest
        )
        values = (
            stored.file, self._signature, stored.tokens, stored.shared_tokens,
            int(stored.trimmable), stored.n_bytes, stored.digest, time.time(),
        )  # fmt: skip
        connection.execute("insert or replace into states values (?,?,?,?,?,?,?,?)", values)
        with self._lock:
            self._stored[stored.file] = stored
            superseded = [
                old for old in self._stored.values()
                if old is not stored and old.trimmable and stored.trimmable
                and stored.tokens.startswith(old.tokens)
            ]  # fmt: skip
        for old in superseded:
            self._delete(connection, old)
        self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        # Of all models together: the limit is the folder's.
        rows = connection.execute("select file, n_bytes from states order by used_s").fetchall()
        excess = sum(n_bytes for _, n_bytes in rows) - self._max_bytes
        for file, n_bytes in rows:
            if excess <= 0:
                return
            excess -= n_bytes
            self._delete(connection, Stored(file, b"", 0, False, n_bytes, b""))
            self.tally.evictions["room"] += 1

    def _delete(self, connection: sqlite3.Connection, stored: Stored) -> None:
        connection.execute("delete from states where file = ?", (stored.file,))
        (self._folder / stored.file).unlink(missing_ok=True)
        with self._lock:
            self._stored.pop(stored.file, None)

    def nearest(self, tokens: bytes) -> tuple[Stored | None, int]:
        """The state that knows most of a prompt, and how many of its tokens that is."""
        wanted = first(tokens, n_tokens(tokens) - 1)
        best, best_n = None, 0
        with self._lock:
            for stored in self._stored.values():
                n = stored.usable(wanted)
                if n > best_n:
                    best, best_n = stored, n
        return best, best_n

    async def intact(self, stored: Stored) -> bool:
        """Whether its file is the one that was written; if not, it is removed."""
        path = self._folder / stored.file

        def check(connection: sqlite3.Connection) -> bool:
            del connection
            return path.exists() and checksum(path) == stored.digest

        if await self._disk.read(check, False):
            return True
        self.discard(stored)
        return False

    def load(self, stored: Stored, n: int) -> State:
        """Read its first `n` tokens' state. Engine thread.

        Raises:
            ValueError: It holds something else.
        """
        state = self._states.load(self._folder / stored.file)
        now_s = time.time()
        update = "update states set used_s = ? where file = ?"
        self._disk.write(lambda c: c.execute(update, (now_s, stored.file)))
        surplus = n_tokens(stored.tokens) - n
        return self._states.shrink(state, surplus) if surplus else state

    def discard(self, stored: Stored) -> None:
        """Remove a state that turned out to be damaged."""
        log.warning("%s is damaged or gone, and is removed", stored.file)
        self.tally.evictions["damaged"] += 1
        with self._lock:
            self._stored.pop(stored.file, None)
        self._disk.write(lambda connection: self._delete(connection, stored))

    def clear(self) -> int:
        """Remove every state of this model; return how many there were."""
        with self._lock:
            gone = list(self._stored.values())
            self._stored.clear()
            self._pending.clear()
        for stored in gone:
            self._disk.write(partial(self._delete, stored=stored))
        return len(gone)


def checksum(path: Path) -> bytes:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
