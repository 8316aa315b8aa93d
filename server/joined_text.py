"""A text that grows by small pieces.

They are joined a few at a time. Joining or freeing all pieces of a long text at once would hold up
the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_PIECES = 256
"""So many are joined together."""


class JoinedText:
    """Takes a text piece by piece."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self.n_chars = 0

    def add(self, piece: str) -> None:
        """What comes next."""
        self._pieces.append(piece)
        self.n_chars += len(piece)
        if len(self._pieces) >= MAX_PIECES:
            self._blocks.append("".join(self._pieces))
            self._pieces.clear()

    @property
    def text(self) -> str:
        """All of it."""
        self._blocks[:] = ["".join([*self._blocks, *self._pieces])]
        self._pieces.clear()
        return self._blocks[0]

    def backwards(self) -> Iterator[str]:
        """Its parts, the last one first."""
        yield from reversed(self._pieces)
        yield from reversed(self._blocks)

    def clear(self) -> None:
        """Begin again."""
        self._blocks.clear()
        self._pieces.clear()
        self.n_chars = 0
