"""Text as it may reach the terminal: nothing in it is obeyed there, or dimmed by its own idea.

One filter does both, as Textual makes a line anew for each.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from mlxdeck.telemetry.control_characters import CONTROLS

_NOT_DIM = Style(dim=False)


class ShownText(LineFilter):
    """Leaves out control characters; draws dim text in one colour, whatever its own was."""

    def __init__(self, colour: str) -> None:
        """`colour` is as CSS has it; with none, dim text is drawn as all other text."""
        super().__init__()
        self._style = _style(colour)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments, plain and none of them dim."""
        del background
        return [
            segment if segment.control or _is_shown(segment) else self._shown(segment)
            for segment in segments
        ]

    def _shown(self, segment: Segment) -> Segment:
        style = segment.style
        if style and style.dim:
            style += self._style
        return Segment(segment.text.translate(CONTROLS), style)


def _is_shown(segment: Segment) -> bool:
    return segment.text.isprintable() and not (segment.style and segment.style.dim)


@lru_cache(16)
def _style(colour: str) -> Style:
    if not colour:
        return _NOT_DIM
    return _NOT_DIM + Style(color=RichColor.parse(colour) if colour[0] == "#" else None)
