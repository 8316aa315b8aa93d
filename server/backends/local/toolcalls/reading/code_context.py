"""Whether a place in the visible answer is in prose, in a code fence, or in inline code."""

from __future__ import annotations

import re

_FENCE = re.compile(r"\s*(?:[-*+>]\s+|\d+[.)]\s+)*(`{3,}|~{3,})([^`]*)$")
QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u00ab": "\u00bb"}
"""What opens a quotation in prose, and what closes it."""
_KEPT_CHARS = 160


class CodeContext:
    """Follows the visible text, and knows the context of its end."""

    def __init__(self) -> None:
        self.visible = False
        """Whether there is any, since the answer, a call or thinking before it."""
        self.fence = ""
        """The marks of the open fence; empty outside of a fence."""
        self._line = ""
        self._n_ticks = 0

    def reset(self) -> None:
        """Thinking or a call has ended: what follows is a new text."""
        self.__init__()  # type: ignore[misc]

    @property
    def line_start(self) -> bool:
        """Whether only blanks precede the place in its line."""
        return not self._line.strip()

    @property
    def last(self) -> str:
        """The character before; empty at the start of a line."""
        return self._line[-1:]

    @property
    def quote(self) -> str:
        """What opens a quotation right before it; empty if nothing does."""
        return self.last if self.visible and self.last in QUOTES else ""

    @property
    def in_code(self) -> bool:
        """Whether the place is in a code fence, or between backticks."""
        return bool(self.fence) or self._n_ticks % 2 == 1

    def saw(self, text: str) -> None:
        """More text has become visible."""
        first, *others = text.split("\n")
        self._more(first)
        for line in others:
            self._end_line()
            self._more(line)
        self.visible = self.visible or not text.isspace() and text != ""

    def _more(self, text: str) -> None:
        self._n_ticks += text.count("`")
        kept = self._line + text
        # The beginning of a line decides about a fence. Beyond that, only the last character
        # matters.
        self._line = kept if len(kept) <= _KEPT_CHARS else kept[: _KEPT_CHARS - 1] + kept[-1]

    def _end_line(self) -> None:
        found = _FENCE.match(self._line)
        if found and not self.fence:
            self.fence = found[1]
        elif found and found[1].startswith(self.fence) and not found[2].strip():
            self.fence = ""
        self._line, self._n_ticks = "", 0
