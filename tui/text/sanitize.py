"""Foreign text as plain text: control sequences in it must not reach the terminal."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from mlxdeck.telemetry.control_characters import CONTROLS

_LINE_BREAKS = {9, 10}
_ALL_BUT_BREAKS = {code: None for code in CONTROLS if code not in _LINE_BREAKS}


class Plain(LineFilter):
    """Leaves control characters out of every line that is drawn."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, with nothing in them that a terminal would obey."""
        del background
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(segment.text.translate(CONTROLS), segment.style)
            for segment in segments
        ]


def plain(value: Any) -> Any:
    """A value made of texts, lists and dictionaries, without control characters in its texts."""
    if isinstance(value, str):
        return value.translate(_ALL_BUT_BREAKS)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value
