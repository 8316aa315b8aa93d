"""KV states on disk: one safetensors file each, and their tokens in the index.

A state is written once its conversation has been quiet for a moment. The writing thread writes it
under a temporary name and renames the complete file. Until then it waits in RAM, within the limit
of RAM. It is read back when a prompt needs it, after a check of its checksum.

States of other models are left alone. Damaged files are removed and counted. Only files with names
of ours are touched, and no symbolic link is followed.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mlxdeck.server.backends.local.engine.api import State, StateDamaged, States, StoredState
from mlxdeck.server.backends.local.kv.prefix_cache import Entry, PrefixCache
from mlxdeck.server.backends.local.kv.state_index import (
    BLOCK_TOKENS,
    FILE,
    DamagedRow,
    StateIndex,
    Stored,
    without_last,
)
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens, pack
from mlxdeck.server.cache.cache_stats import CacheStats
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.own_files import checksum, is_regular, open_own, own_folder
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)

ORPHAN_S = 300.0
"""Files younger than this may be another process's that is about to index them."""
MAX_SPOILT = 16
"""Number of states to remove at once that share a beginning with a damaged state."""
_DRAFT = re.compile(r"\.[0-9a-f]{64}-\d+\.safetensors")

Known = Callable[[bytes], int]
"""How many leading tokens of a prompt are known elsewhere."""


class DiskPrefixCache:
    """The states of one model on disk. Safe from any thread."""

    def __init__(
        self,
        disk: DiskIO,
        folder: Path,
        states: States,
        ram: PrefixCache,
        signature: str,
        max_bytes: int,
    ) -> None:
        """`ram` holds waiting states; `signature` covers everything that determines a state's form.

        Raises:
            OSError, sqlite3.Error: The disk doesn't work.
        """
        self._disk = disk
        self._folder = folder
        self._states = states
        self._ram = ram
        self._index = StateIndex(signature)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._n_queued = 0
        self.tally = CacheStats()
        own_folder(folder)
        with disk.database.begin() as connection:
            self._remove_orphans(self._index.all_files(connection))
            self._n, self.n_bytes = self._index.totals(connection)
        # The limit may be lower than it was.
        disk.write(self._make_room)

    def _remove_orphans(self, known: set[object]) -> None:
        for path in self._folder.iterdir():
            is_ours = FILE.fullmatch(path.name) or _DRAFT.fullmatch(path.name)
            if not is_ours or path.name in known or not is_regular(path):
                continue
            if time.time() - path.lstat().st_mtime > ORPHAN_S:
                log.warning("%s is in no index and is removed", path.name)
                path.unlink(missing_ok=True)
                self.tally.evictions["foreign"] += 1

    def __len__(self) -> int:
        return self._n

    def write_due(self, *, everything: bool = False) -> None:
        """Start to write states that have been quiet long enough; called regularly."""
        n_due = self._ram.n_due(everything=everything)
        with self._lock:
            n_new = max(0, n_due - self._n_queued)
            self._n_queued += n_new
        for _ in range(n_new):
            self._disk.write(lambda connection: self._write_next(connection, everything))

    def _write_next(self, connection: sqlite3.Connection, everything: bool) -> None:
        with self._lock:
            self._n_queued -= 1
        # Only the state that is being written is held; waiting states may still be evicted.
        lease = self._ram.lease_due(everything=everything)
        if lease is None or lease.entry is None:
            return
        try:
            self._write(connection, lease.entry)
        finally:
            lease.release()

    def _write(self, connection: sqlite3.Connection, entry: Entry) -> None:
        if n_tokens(entry.tokens) < BLOCK_TOKENS:
            return  # It has been shrunk meanwhile.
        if entry.n_bytes > self._max_bytes:
            self.tally.evictions["no_room"] += 1
            return
        if self._index.covers(connection, entry.tokens, entry.trimmable):
            return
        name = self._index.file_of(entry.tokens)
        # mlx-lm's writer insists on the suffix.
        draft = self._folder / f".{name.removesuffix('.safetensors')}-{os.getpid()}.safetensors"
        try:
            digest, n_bytes = self._save(entry.state, draft)
            draft.rename(self._folder / name)
        finally:
            draft.unlink(missing_ok=True)
        stored = Stored(name, entry.tokens, entry.shared_tokens, entry.trimmable, n_bytes, digest)
        try:
            self._index.add(connection, stored)
        except sqlite3.Error:
            (self._folder / name).unlink(missing_ok=True)
            raise
        for shorter in self._index.superseded(connection, stored):
            self._delete(connection, shorter)
        self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        for file, signature in self._index.oldest(connection, self._max_bytes):
            self._delete(connection, file)
            if signature == self._index.signature:
                self.tally.evictions["room"] += 1
        self._count(connection)

    def _save(self, state: State, draft: Path) -> tuple[bytes, int]:
        draft.unlink(missing_ok=True)
        # Created here first, so that other users can't read it at any moment.
        os.close(open_own(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            self._states.save(state, draft)
        except EngineFailed as error:
            self.tally.evictions["failed"] += 1
            # As any file that can't be written.
            raise OSError(error.message) from None
        return checksum(draft)

    def _delete(self, connection: sqlite3.Connection, file: object) -> None:
        self._index.remove(connection, file)
        # Whatever the index contains, only a file of ours is removed.
        if isinstance(file, str) and FILE.fullmatch(file):
            (self._folder / file).unlink(missing_ok=True)

    def _count(self, connection: sqlite3.Connection) -> None:
        self._n, self.n_bytes = self._index.totals(connection)

    async def nearest(self, tokens: Sequence[int], known: Known) -> tuple[Stored | None, int, int]:
        """The state that knows most of a prompt, how many of its tokens that is, and `known`'s."""

        def look(connection: sqlite3.Connection) -> tuple[Stored | None, int, int]:
            packed = pack(tokens)
            try:
                stored, n = self._index.nearest(connection, without_last(packed))
            except DamagedRow as error:
                self.discard(error.file)
                return None, 0, 0
            return stored, n, known(packed) if stored is not None else 0

        return await self._disk.read(look, (None, 0, 0))

    async def read(self, stored: Stored) -> StoredState:
        """Check its file and read it into memory, on a thread of the disk's.

        Raises:
            StateDamaged: It is not the one that was written; it is removed.
            EngineFailed: It can't be read now.
        """
        path = self._folder / stored.file
        damaged: StoredState = StateDamaged(f"{stored.file} is not what was written")

        def read(connection: sqlite3.Connection) -> StoredState:
            del connection
            if not is_regular(path) or checksum(path)[0] != stored.digest:
                return damaged
            try:
                return self._states.read(path)
            except EngineFailed as error:
                return error

        found = await self._disk.check(read, damaged)
        if isinstance(found, StateDamaged):
            self.discard(stored.file)
        if isinstance(found, EngineFailed):
            raise found
        return found

    def restore(self, stored: Stored, read: StoredState, n: int) -> State:
        """Make a state of the first `n` tokens of the data that was read. Engine thread.

        Raises:
            StateDamaged: The data is something else.
            EngineFailed: There is no room for it.
        """
        state = self._states.restore(read)
        self._disk.write(lambda connection: self._index.used(connection, stored.file))
        surplus = n_tokens(stored.tokens) - n
        return self._states.shrink(state, surplus) if surplus else state

    def spoil(self, tokens: bytes) -> None:
        """Remove what begins with these tokens: nothing could be drawn from such a state."""
        self._disk.write(lambda connection: self._spoil(connection, tokens))

    def _spoil(self, connection: sqlite3.Connection, tokens: bytes) -> None:
        for _ in range(MAX_SPOILT):
            stored, n = self._index.nearest(connection, tokens)
            if stored is None or n < n_tokens(tokens):
                return
            log.warning("%s is removed: no token could be sampled from it", stored.file)
            self.tally.evictions["failed"] += 1
            self._discard(connection, stored.file)

    def discard(self, file: object) -> None:
        """Remove a state that turned out to be damaged."""
        log.warning("%.80r is damaged or gone, and is removed", file)
        self.tally.evictions["damaged"] += 1
        self._disk.write(lambda connection: self._discard(connection, file))

    def _discard(self, connection: sqlite3.Connection, file: object) -> None:
        self._delete(connection, file)
        # A block may be listed for a state that no table has.
        connection.execute("delete from state_blocks where file is ?", (file,))
        self._count(connection)

    def clear(self) -> int:
        """Remove every state of this model; return how many there were."""
        n, self._n, self.n_bytes = self._n, 0, 0
        self._ram.forget_due()
        # A state that is being written now is removed afterwards.
        self._disk.write(self._clear)
        return n

    def _clear(self, connection: sqlite3.Connection) -> None:
        for file in self._index.own_files(connection):
            self._delete(connection, file)
        self._count(connection)
