"""Which parts of the index lie in which files on disk. Any thread; under the index's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxdeck.server.backends.local.kv.blocks import (
    BlockTree,
    Checkpoint,
    FileRange,
    KVPart,
    TokenBlock,
    path_of,
)
from mlxdeck.server.backends.local.kv.run_index import StoredPart, StoredRun, is_file
from mlxdeck.server.backends.local.kv.token_bytes import n_tokens


class DiskTree:
    """The files of one model, and what they hold."""

    def __init__(self, tree: BlockTree) -> None:
        self._tree = tree
        self._files: dict[str, list[KVPart]] = {}

    @property
    def n_files(self) -> int:
        """How many there are."""
        return len(self._files)

    @property
    def n_states(self) -> int:
        """Checkpoints, or blocks with none behind them; what they rely on isn't counted."""
        with self._tree.lock:
            parts = [part for parts in self._files.values() for part in parts]
            n = sum(isinstance(part, Checkpoint) for part in parts)
            return n or sum(isinstance(part, TokenBlock) and _is_end(part) for part in parts)

    @property
    def logical_bytes(self) -> int:
        """Bytes of the states if each had all of its own.

        Of what is changed meanwhile, some of it: nobody waits for this.
        """
        with self._tree.lock:
            parts = [part for parts in self._files.values() for part in parts]
            ends: list[KVPart] = [part for part in parts if isinstance(part, Checkpoint)]
            ends = ends or [
                part for part in parts if isinstance(part, TokenBlock) and _is_end(part)
            ]
        paths = map(path_of, ends)
        places = (each.place for path in paths for each in path)
        return sum(place.n_bytes for place in places if place is not None)

    def load(self, file: object, run: StoredRun) -> None:
        """Put the parts of a file into the index, if they aren't there.

        Raises:
            ValueError: It has no name of ours, or relies on what isn't there.
        """
        if not isinstance(file, str) or not is_file(file):
            raise ValueError("no file of ours")
        with self._tree.lock:
            if file in self._files:
                return
            parts: list[KVPart] = []
            self._files[file] = parts
            for stored in run.parts:
                part = self._part(stored)
                about = run.about(stored)
                if part.place is None:
                    place = FileRange(file, stored.offset, stored.n_bytes, stored.digest, about)
                    part.place = place
                    parts.append(part)

    def _part(self, stored: StoredPart) -> KVPart:
        parent = self._tree.by_key.get(stored.parent)
        if parent is None or (parent.place is None and parent is not self._tree.root):
            raise ValueError("what it begins with is gone")
        if not stored.is_checkpoint:
            block = self._tree.put(parent, stored.tokens, is_cuttable=stored.is_cuttable)
            block.shared_tokens = max(block.shared_tokens, stored.shared_tokens)
            return block
        holder = self._tree.holder(parent, stored.tokens, lambda part: part.place is not None)
        if holder is None:
            raise ValueError("the tokens of a checkpoint are gone")
        return self._tree.put_checkpoint(holder, parent.end_tokens + n_tokens(stored.tokens))

    def files(self, path: Sequence[TokenBlock]) -> list[str]:
        """The files of a path and of its checkpoints."""
        with self._tree.lock:
            parts = [part for block in path for part in (block, *block.checkpoints.values())]
            places = [part.place.file for part in parts if part.place is not None]
            return list(dict.fromkeys(places))

    def superseded(self, path: Sequence[TokenBlock]) -> list[str]:
        """Files of tails that blocks of a path begin with; checkpoints there move over."""
        with self._tree.lock:
            found = []
            for block in path:
                for tail in self._tree.superseded(block):
                    self._tree.move_checkpoints(tail, block)
                    if tail.place is not None:
                        found.append(tail.place.file)
            return found

    def forget(self, file: object) -> list[str]:
        """The parts of a file aren't there; return the files of those that rely on them."""
        with self._tree.lock:
            parts = self._files.pop(file, []) if isinstance(file, str) else []
            above: dict[str, None] = {}
            for part in parts:
                above |= dict.fromkeys(_files_above(part))
                part.place = None
            for part in reversed(parts):
                self._tree.forget(part)
            above.pop(str(file), None)
            return list(above)

    def drop(self, file: object) -> list[object]:
        """The same for what relies on them; return all these files, and this one."""
        with self._tree.lock:
            found, left = [file], self.forget(file)
            while left:
                each = left.pop()
                found.append(each)
                left += self.forget(each)
            return found

    def clear(self) -> None:
        """Nothing is on disk."""
        with self._tree.lock:
            for file in list(self._files):
                self.forget(file)


def _is_end(block: TokenBlock) -> bool:
    return all(child.place is None for child in block.children.values())


def _files_above(part: KVPart) -> Iterator[str]:
    """The files of what relies on a part."""
    if not isinstance(part, TokenBlock):
        return
    for checkpoint in part.checkpoints.values():
        if checkpoint.place is not None:
            yield checkpoint.place.file
    for child in part.children.values():
        if child.place is not None:
            yield child.place.file
