"""Regular expressions of clients and of tools, run in a time that is linear in the text.

RE2 knows neither look-around nor references back; such an expression is not judged by. What both
ECMAScript and RE2 know is put as RE2 writes it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN_CHARS = 4_096
MAX_PROGRAM_BYTES = 1024**2
"""Memory for one compiled expression and its states."""
STEPS_PER_UNIT = 4_000
"""Steps of an automaton (its size times the length of the text) in one unit of a budget."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)


class Unsupported(ValueError):
    """An expression that is invalid, or can't be run in linear time."""


class Pattern:
    """A compiled expression."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def cost(self, n_chars: int) -> int:
        """Units of work that a search in a text of that length takes at most."""
        return 1 + int(self._compiled.programsize) * n_chars // STEPS_PER_UNIT

    def found_in(self, text: str) -> bool:
        """Whether it matches anywhere."""
        return self._compiled.search(text.encode("utf-8", "replace")) is not None


@lru_cache(256)
def compiled(pattern: str) -> Pattern:
    """An expression of JSON Schema's, compiled.

    Raises:
        Unsupported: It is too long, or nothing that RE2 runs.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Unsupported(f"longer than {MAX_PATTERN_CHARS:,} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PROGRAM_BYTES
    written = _ESCAPE.sub(_as_re2, pattern).encode("utf-8", "replace")
    try:
        return Pattern(re2.compile(written, options=options))
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise Unsupported(told) from None


def _as_re2(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    return f"\\x{{{digits}}}" if digits else escape[0]
