"""The log: its levels, and lines without control characters, so that no request can control the
terminal.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

TRACE = 5
"""Below debug: also the text that the model wrote."""
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
STACK = "thread_stack"
"""A field of a record: where another thread is, as lines below the message."""
ADDED = ("request_id", "stage", STACK)
"""Fields of a record that JSON has beside the usual ones."""
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 but tab and line feed, C1, marks that turn the direction of text, half surrogate pairs."""


def set_up(level: str, format_: str) -> None:
    """Send the log of this process to standard error.

    Below info, only our own modules say more: HTTP libraries would show headers, and so keys.
    """
    logging.addLevelName(TRACE, "TRACE")
    wanted = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format_ == "json" else EscapingFormatter())
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler])
    logging.getLogger("mlxdeck").setLevel(wanted)
    # Of Sanic's own lines, those below warnings are about clients that disconnected.
    logging.getLogger("sanic.root").setLevel(logging.WARNING)
    # A line for each request to another server; telemetry has them.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class EscapingFormatter(logging.Formatter):
    """Escapes control characters; only a traceback or a stack has more than one line."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the lines below it."""
        stack = getattr(record, STACK, "").rstrip()
        return "\n".join([super().format(record), *([escaped(stack)] if stack else ())])

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself."""
        return escaped(super().formatMessage(record)).replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:
        """A traceback."""
        return escaped(super().formatException(ei))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in ADDED if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def escaped(text: str) -> str:
    """Text with its control characters written out."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)
