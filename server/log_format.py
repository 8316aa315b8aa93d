"""Log lines without control characters, so that no request can control the terminal."""

from __future__ import annotations

import logging
import re
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 but tab and line feed, C1, marks that turn the direction of text, half surrogate pairs."""


class EscapingFormatter(logging.Formatter):
    """Escapes control characters; only a traceback has more than one line."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself."""
        return escaped(super().formatMessage(record)).replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:
        """A traceback."""
        return escaped(super().formatException(ei))


def escaped(text: str) -> str:
    """Text with its control characters written out."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)
