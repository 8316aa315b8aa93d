"""Which lines can tell of some kinds of events, found without decoding them. Pure."""

from __future__ import annotations

from mlxdeck.telemetry.schema.attributes import Attrs

_HEAD_BYTES = 300
"""Our own writer names the event so early, in front of any text."""
_KEY = b'"event"'
_NAMED_BYTES = 64
"""The key and its value."""


class EventMarks:
    """The names of some kinds of events, as they stand in a line.

    Blanks and the order of keys don't matter: a file may have gone through other programs.
    """

    def __init__(self, *kinds: type[Attrs]) -> None:
        self.kinds = frozenset(kind.NAME for kind in kinds)
        self._names = tuple(f'"{name}"'.encode() for name in sorted(self.kinds))

    def are_in(self, raw: bytes) -> bool:
        """Whether such a line can be among these bytes."""
        return any(name in raw for name in self._names)

    def may_be(self, line: bytes) -> bool:
        """Whether a line can be one; whoever decodes it knows."""
        at = line.find(_KEY, 0, _HEAD_BYTES)
        return self.are_in(line if at < 0 else line[at : at + _NAMED_BYTES])
