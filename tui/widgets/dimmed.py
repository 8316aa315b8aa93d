"""Text that Rich calls dim, in a colour of the theme: terminals dim it as they like."""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_NOT_DIM = Style(dim=False)


class Dimmed(LineFilter):
    """Draws dim text in one colour, whatever its own was."""

    def __init__(self, colour: str) -> None:
        """`colour` is as CSS has it; with none, dim text is drawn as all other text."""
        super().__init__()
        self._style = _style(colour)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, none of them dim."""
        del background
        return [
            Segment(segment.text, segment.style + self._style)
            if segment.style and segment.style.dim
            else segment
            for segment in segments
        ]


@lru_cache(16)
def _style(colour: str) -> Style:
    if not colour:
        return _NOT_DIM
    return _NOT_DIM + Style(color=RichColor.parse(colour) if colour[0] == "#" else None)
