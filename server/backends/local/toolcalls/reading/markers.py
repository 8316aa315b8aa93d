"""Markers that switch between text, thinking and calls, and texts that were no call: values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MIN_HALF_CHARS = 2
"""A marker cut off by the token limit is no text; a single `<` may be."""
_THINKING = re.compile(r"</?think(?:ing)?>")
_STRUCTURE = re.compile(r"[{}\[\]\"'=:<>|]")
_TAGS = re.compile(r"\s*(?:</?[\w:.-]{1,40}>\s*|<\|[\w.-]{1,40}\|>\s*)+")


@dataclass(frozen=True, slots=True)
class Markers:
    """The texts that switch between modes; empty ones never match."""

    think_start: str = ""
    think_end: str = ""
    stops: tuple[str, ...] = ()


def only_tags(text: str) -> bool:
    """Whether a text is nothing but tags, as models leave them behind a call."""
    return bool(_TAGS.fullmatch(text))


def is_half(text: str, markers: Sequence[str], *, alone: bool) -> bool:
    """Whether a text is a marker cut off by the token limit; `alone` if no call precedes it."""
    squeezed, least_chars = "".join(text.split()), MIN_HALF_CHARS if alone else 1
    return len(squeezed) >= least_chars and any(each.startswith(squeezed) for each in markers)


def next_start(text: str, starts: Sequence[str], opened: str) -> int:
    """Where in a failed call, which begins the text, another one begins; its length if none does.

    Only after plain words: arguments may contain any text. `opened` belongs to the first of the
    starts.
    """
    at = max((len(each) for each in starts if text.startswith(each)), default=0)
    if text.startswith(starts[0]) and opened.strip():
        at += len(text) - at - len(text[at:].lstrip())
        at += len(opened.strip()) * text.startswith(opened.strip(), at)
    found = [place for each in starts if (place := text.find(each, at)) >= 0]
    if not found or _STRUCTURE.search(_THINKING.sub("", text[at : min(found)])):
        return len(text)
    return min(found)
