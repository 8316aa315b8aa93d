"""KV states on disk: files of runs of blocks, and their rows in the index.

A state is written once its conversation has been quiet for a moment: only what the disk lacks of
it. The writing thread writes files under temporary names and renames complete ones. Until then it
waits in RAM, within the limit of RAM.

States of other models are left alone. Damaged files are removed and counted, with all that relies
on them. Only files with names of ours are touched, and no symbolic link is followed.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.server.backends.local.engine.api import PackedPart, States
from mlxdeck.server.backends.local.kv import run_file
from mlxdeck.server.backends.local.kv.blocks import (
    Checkpoint,
    FileRange,
    KVPart,
    TokenBlock,
    anywhere,
    in_ram,
)
from mlxdeck.server.backends.local.kv.disk_tree import DiskTree
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.run_index import (
    RunIndex,
    StoredPart,
    StoredRun,
    decoded,
    is_file,
)
from mlxdeck.server.backends.local.kv.runs import in_runs
from mlxdeck.server.backends.local.kv.token_bytes import first, n_tokens, pack, without_last
from mlxdeck.server.backends.local.kv.write_queue import unwritten
from mlxdeck.server.cache.cache_stats import CacheStats
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.own_files import is_regular, own_folder
from mlxdeck.server.errors import EngineFailed

log = logging.getLogger(__name__)

FOLDER = "kv-blocks-1"
"""Another form of the files has another name."""
ORPHAN_S = 300.0
"""Files younger than this may be another process's that is about to index them."""
MIN_STORED_TOKENS = 64
"""Shorter states are not stored: they are computed faster than they are read."""
MIN_GAIN_TOKENS = 64
"""So many more tokens than RAM the disk has to know to be worth a read."""
_DRAFT = re.compile(r"\.[0-9a-f]{64}-\d+\.kv")
OLD_FOLDER = "states"
_OLD = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}-\d+\.safetensors")


@dataclass(frozen=True, slots=True)
class Missing:
    """The longest prefix of a prompt that can be had."""

    path: Sequence[TokenBlock]
    parts: Sequence[KVPart]
    """Those that are on disk only, in order."""
    n_tokens: int


class DiskPrefixCache:
    """The states of one model on disk. Safe from any thread."""

    def __init__(
        self,
        disk: DiskIO,
        home: Path,
        states: States,
        ram: PrefixCache,
        signature: str,
        max_bytes: int,
    ) -> None:
        """`ram` holds waiting states; `signature` covers everything that determines a state's form.

        Nothing is read yet: that begins in the background.

        Raises:
            OSError: The folder can't be made.
        """
        self._disk = disk
        self._home = home
        self._folder = home / FOLDER
        self._states = states
        self._ram = ram
        self._tree = ram.tree
        self._on_disk = DiskTree(ram.tree)
        self._index = RunIndex(signature)
        self._max_bytes = max_bytes
        self._n_queued = 0
        self._refreshing = threading.Lock()
        self._last_n = 0
        self.n_bytes = 0
        self.stats = CacheStats()
        own_folder(self._folder)
        disk.write(self._tidy)

    def __len__(self) -> int:
        """How many states can be had: ends of paths, or checkpoints."""
        return self._on_disk.n_states

    @property
    def n_files(self) -> int:
        """Of this model."""
        return self._on_disk.n_files

    @property
    def logical_bytes(self) -> int:
        """Bytes of its states, if each had all of its own."""
        return self._on_disk.logical_bytes

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Remove what no index knows, and files of earlier versions; keep to a lower limit."""
        self._refresh(connection)
        self._remove_old()
        known = self._index.all_files(connection)
        for path in self._folder.iterdir():
            is_ours = is_file(path.name) or _DRAFT.fullmatch(path.name)
            if not is_ours or path.name in known or not is_regular(path):
                continue
            if time.time() - path.lstat().st_mtime > ORPHAN_S:
                log.warning("%s is in no index and is removed", path.name)
                path.unlink(missing_ok=True)
                self.stats.evictions["foreign"] += 1
        self._make_room(connection)

    def _remove_old(self) -> None:
        folder = self._home / OLD_FOLDER
        if folder.is_symlink() or not folder.is_dir():
            return
        ours = [path for path in folder.iterdir() if _OLD.fullmatch(path.name)]
        for path in ours:
            if is_regular(path):
                path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        if ours:
            log.warning(
                "%d KV states of an earlier version are removed: states are kept in another form"
                " now, and computed anew",
                len(ours),
            )

    async def missing(self, tokens: Sequence[int]) -> Missing | None:
        """What of a prompt only the disk knows, if that is worth a read.

        Rows that are new are read first: all at first, then those of other processes.
        """

        def look(connection: sqlite3.Connection) -> Missing | None:
            self._refresh(connection)
            return self._missing(without_last(pack(tokens)))

        return await self._disk.read(look, None)

    async def refresh(self) -> None:
        """Read the rows that are new."""
        await self._disk.read(self._refresh, None)

    def _missing(self, wanted: bytes) -> Missing | None:
        with self._tree.lock:
            match, known = self._tree.find(wanted, anywhere), self._tree.find(wanted, in_ram)
            n_known = known.n_tokens if known else 0
            if match is None or match.n_tokens < n_known + MIN_GAIN_TOKENS:
                return None
            path: list[TokenBlock] = match.block.path()
            parts: list[KVPart] = [*path, *([match.checkpoint] if match.checkpoint else [])]
            missing = [part for part in parts if part.data is None]
            return Missing(path, missing, match.n_tokens) if missing else None

    def _refresh(self, connection: sqlite3.Connection) -> None:
        with self._refreshing:
            for n, file, parts in self._index.after(connection, self._last_n):
                self._last_n = max(self._last_n, n)
                try:
                    self._on_disk.load(file, decoded(parts, self._tree.block_tokens))
                except ValueError:
                    self.discard(file)
            self._count(connection)

    def write_due(self, *, everything: bool = False) -> None:
        """Start to write states that have been quiet long enough; called regularly."""
        n_due = self._ram.waiting.n_due(everything=everything)
        with self._tree.lock:
            n_new = max(0, n_due - self._n_queued)
            self._n_queued += n_new
        for _ in range(n_new):
            self._disk.write(lambda connection: self._write_next(connection, everything))

    def _write_next(self, connection: sqlite3.Connection, everything: bool) -> None:
        with self._tree.lock:
            self._n_queued -= 1
            # Only the state that is being written is held; waiting states may still be evicted.
            lease = self._ram.waiting.lease_due(everything=everything)
            if lease is None or lease.block is None:
                return
            parts = unwritten(lease.block, lease.checkpoint)
            path = lease.block.path()
        try:
            if lease.n_cached >= MIN_STORED_TOKENS:
                self._write(connection, path, parts)
        finally:
            lease.release()

    def _write(
        self, connection: sqlite3.Connection, path: Sequence[TokenBlock], parts: Sequence[KVPart]
    ) -> None:
        if sum(part.n_bytes for part in parts) > self._max_bytes:
            self.stats.evictions["no_room"] += 1
            return
        for run in in_runs(parts, self._tree.block_tokens):
            self._write_run(connection, run)
        self._index.used(connection, self._on_disk.files(path))
        for file in self._on_disk.superseded(path):
            self._delete(connection, self._on_disk.drop(file))
        self._make_room(connection)

    def _write_run(self, connection: sqlite3.Connection, parts: Sequence[KVPart]) -> None:
        try:
            packed = [self._states.pack(part.data) for part in parts]
        except EngineFailed as error:
            self.stats.evictions["failed"] += 1
            # As any file that can't be written.
            raise OSError(error.message) from None
        name = self._name(parts)
        places = run_file.write(self._folder, name, packed)
        abouts = list(dict.fromkeys(each.about for each in packed))
        stored = [_stored(part, place, abouts) for part, place in zip(parts, places, strict=True)]
        n_bytes = sum(place.n_bytes for place in places)
        start = _start(parts[0])
        try:
            self._index.add(connection, name, start, n_bytes, StoredRun(abouts, stored))
            connection.commit()
        except sqlite3.Error:
            (self._folder / name).unlink(missing_ok=True)
            raise
        # By their keys, these parts are found where they are.
        self._refresh(connection)

    def _name(self, parts: Sequence[KVPart]) -> str:
        told = hashlib.sha256(self._index.signature.encode())
        for part in parts:
            told.update(_key(part))
        return told.hexdigest() + ".kv"

    def _make_room(self, connection: sqlite3.Connection) -> None:
        for file, signature in self._index.oldest(connection, self._max_bytes):
            self._delete(connection, self._on_disk.drop(file))
            if signature == self._index.signature:
                self.stats.evictions["room"] += 1
        self._count(connection)

    def _delete(self, connection: sqlite3.Connection, files: Iterable[object]) -> None:
        for file in files:
            self._index.remove(connection, file)
            # Whatever the index contains, only a file of ours is removed.
            if is_file(file):
                (self._folder / str(file)).unlink(missing_ok=True)
        self._count(connection)

    def _count(self, connection: sqlite3.Connection) -> None:
        self.n_bytes = self._index.totals(connection)[1]

    async def read(self, parts: Sequence[KVPart]) -> list[PackedPart]:
        """Check and read parts into memory, on a thread of the disk's.

        Fewer, up to one that is gone, or not what was written.
        """
        places: list[FileRange] = []
        for part in parts:
            if part.place is None:
                break
            places.append(part.place)
        nothing: list[bytes] = []
        found = await self._disk.check(lambda _: run_file.read(self._folder, places), nothing)
        pairs = zip(places, found, strict=False)
        return [PackedPart(place.about, [data]) for place, data in pairs]

    def used(self, path: Sequence[TokenBlock]) -> None:
        """These have been read, or what lies behind them."""
        files = self._on_disk.files(path)
        self._disk.write(lambda connection: self._index.used(connection, files))

    def spoil(self, tokens: bytes) -> None:
        """Remove what a prompt begins with, and all behind it: nothing could be drawn from it."""
        with self._tree.lock:
            places = [block.place for block in self._tree.begins(tokens)]
        for file in {place.file for place in places if place is not None}:
            self.stats.evictions["failed"] += 1
            self._remove(file, "no token could be sampled from it")

    def discard_part(self, part: KVPart) -> None:
        """Remove the file of a part that turned out to be damaged."""
        if (place := part.place) is not None:
            self.discard(place.file)

    def discard(self, file: object) -> None:
        """Remove a file that turned out to be damaged."""
        self.stats.evictions["damaged"] += 1
        self._remove(file, "it is damaged or gone")

    def _remove(self, file: object, why: str) -> None:
        log.warning("%.80r is removed: %s", file, why)
        # At once, so that nobody looks for it again.
        files = self._on_disk.drop(file)
        self._disk.write(lambda connection: self._delete(connection, files))

    def clear(self) -> int:
        """Remove every state of this model; return how many there were."""
        n, self.n_bytes = len(self), 0
        self._ram.waiting.forget()
        self._on_disk.clear()
        # A state that is being written now is removed afterwards.
        self._disk.write(self._clear)
        return n

    def _clear(self, connection: sqlite3.Connection) -> None:
        self._on_disk.clear()
        self._delete(connection, self._index.own_files(connection))


def _key(part: KVPart) -> bytes:
    if isinstance(part, Checkpoint):
        return part.block.key + part.end_tokens.to_bytes(8)
    return _block(part).key


def _start(part: KVPart) -> int:
    """More than that of what it relies on, which is read first and evicted last."""
    return part.end_tokens if isinstance(part, Checkpoint) else _block(part).start_tokens


def _block(part: KVPart) -> TokenBlock:
    block = part.block if isinstance(part, Checkpoint) else part
    assert isinstance(block, TokenBlock)
    return block


def _stored(part: KVPart, place: FileRange, abouts: list[str]) -> StoredPart:
    block = _block(part)
    assert block.parent is not None
    tokens = block.tokens
    if isinstance(part, Checkpoint):
        tokens = first(tokens, part.end_tokens - block.start_tokens)
    return StoredPart(
        block.parent.key,
        tokens,
        isinstance(part, Checkpoint),
        block.is_cuttable,
        min(block.shared_tokens, n_tokens(tokens)),
        place.offset,
        place.n_bytes,
        place.digest,
        abouts.index(place.about),
    )
