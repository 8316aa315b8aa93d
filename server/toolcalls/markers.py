"""What switches between text, thinking and calls, and what was no call after all: values."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAGS = re.compile(r"\s*(?:</?[\w:.-]{1,40}>\s*|<\|[\w.-]{1,40}\|>\s*)+")


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that could not be read; it has been passed on as text."""

    format: str
    error: str
    n_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Markers:
    """The texts that switch between modes; empty ones never match."""

    think_start: str = ""
    think_end: str = ""
    stops: tuple[str, ...] = ()


def only_tags(text: str) -> bool:
    """Whether a text is nothing but tags, as models leave them behind a call."""
    return bool(_TAGS.fullmatch(text))
