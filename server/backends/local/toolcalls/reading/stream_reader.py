"""A model's text as it arrives, for readers that are written as if it were complete.

A reader is a generator. It takes text from a `StreamReader`, and yields when it needs more text.
Nothing is read twice, so a long argument costs only its length.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""Yields when it waits for text, and returns the result."""

_BLANK = " \t\r\n"
MAX_PATTERN_CHARS = 1_000
"""Of markers, stop sequences of clients among them; a pattern of more takes long to make."""
_KEPT_CHARS = 4_096
"""So much of what has been read stays where it is."""


class CutOff(Exception):
    """The answer ended in the middle of a value."""


class StreamReader:
    """Text, a place in it, and whether more of it may come."""

    def __init__(self, text: str = "", *, ended: bool = False) -> None:
        self._text = text
        self._at = 0
        self._past: list[str] = []
        """What came before the text, since `forget`."""
        self._past_begin = self._base = 0
        """Where that begins, and where the text does."""
        self.ended = ended
        self.cut = False
        """Whether the token limit ended the answer."""

    def feed(self, text: str) -> None:
        """More has arrived."""
        if self._at > _KEPT_CHARS:
            # What has been read is put aside: a text that grows is copied with each token.
            self._past.append(self._text[: self._at])
            self._base += self._at
            self._text, self._at = self._text[self._at :], 0
        self._text += text

    @property
    def held(self) -> str:
        """The text that has arrived and was not taken."""
        return self._text[self._at :]

    @property
    def n_held(self) -> int:
        """The length of that text, without a copy of it."""
        return len(self._text) - self._at

    @property
    def n_kept(self) -> int:
        """The length of all text since `forget`, which may have to be read again."""
        return self._base - self._past_begin + len(self._text)

    @property
    def place(self) -> int:
        """How far the answer has been read; good for `since` and `back` until `forget`."""
        return self._base + self._at

    def since(self, place: int) -> str:
        """The text taken since a mark."""
        if place >= self._base:
            return self._text[place - self._base : self._at]
        return "".join(self._past)[place - self._past_begin :] + self._text[: self._at]

    def back(self, place: int) -> None:
        """Read on from an earlier place."""
        if place < self._base:
            past, n_chars = "".join(self._past), place - self._past_begin
            self._past, self._text = [past[:n_chars]], past[n_chars:] + self._text
            self._base = place
        self._at = place - self._base

    def forget(self) -> None:
        """Release the text that has been read, once that is worth a copy of the rest."""
        if self._at > max(_KEPT_CHARS, len(self._text) // 2):
            self._text, self._base, self._at = self._text[self._at :], self.place, 0
        self._past, self._past_begin = [], self._base

    def more(self) -> Reading[None]:
        """Wait for more.

        Raises:
            CutOff: There won't be any.
        """
        if self.ended:
            raise CutOff
        yield

    def has(self, n_chars: int) -> Reading[bool]:
        """Wait until that much has arrived; whether it has."""
        while self.n_held < n_chars:
            if self.ended:
                return False
            yield
        return True

    def peek(self) -> Reading[str]:
        """The next character; empty at the end of the answer."""
        there = yield from self.has(1)
        return self._text[self._at] if there else ""

    def take(self, n_chars: int) -> str:
        """The text that has arrived, at most so many characters."""
        taken = self._text[self._at : self._at + n_chars]
        self._at += len(taken)
        return taken

    def skip(self, chars: str = _BLANK) -> Reading[None]:
        """Pass over any of these characters."""
        while (char := (yield from self.peek())) and char in chars:
            self._at += 1

    def skip_comments(self) -> Reading[None]:
        """Pass over blanks and comments, which JSON has none of, but models write."""
        while True:
            yield from self.skip()
            begin = self.place
            mark = yield from self.any_of("//", "#", "/*")
            if not mark:
                return
            try:
                yield from self.until("*/" if mark == "/*" else "\n")
            except CutOff:
                self.back(begin)
                return

    def match(self, text: str) -> Reading[bool]:
        """Pass over a text if it comes next."""
        for n in range(1, len(text) + 1):
            if not (yield from self.has(n)) or not self._text.startswith(text[:n], self._at):
                return False
        self._at += len(text)
        return True

    def again(self, marker: str) -> Reading[None]:
        """Skip a marker that is written a second time."""
        begin = self.place
        yield from self.skip()
        if not marker or not (yield from self.match(marker)):
            self.back(begin)

    def any_of(self, *texts: str) -> Reading[str]:
        """Pass over the first of the texts that comes next; empty if none does."""
        for text in filter(None, texts):
            if (yield from self.match(text)):
                return text
        return ""

    def until(self, *markers: str, at_most: int = 0) -> Reading[tuple[str, str]]:
        """Take text up to a marker, and the marker; both are returned.

        Raises:
            CutOff: None of them came, or not within `at_most` characters.
        """
        begin, n_seen = self._base + self._at, 0
        while True:
            # Nothing is taken meanwhile, so the text is put aside no further than `begin`.
            from_ = begin - self._base
            found = first_of(self._text, markers, from_ + n_seen)
            if found is not None:
                index, marker = found
                self._at = index + len(marker)
                return self._text[from_:index], marker
            n_chars = len(self._text) - from_
            if at_most and n_chars > at_most:
                raise CutOff
            n_seen = max(0, n_chars - max(map(len, markers)) + 1)
            yield from self.more()

    def rest_up_to(self, *markers: str) -> Reading[tuple[str, str]]:
        """Take text up to a marker, and that; or all that is left, once the answer has ended."""
        parts = []
        while True:
            text, marker = self.certain(*markers)
            parts.append(text)
            if marker or self.ended:
                return "".join(parts), marker
            yield

    def span(self, pattern: re.Pattern[str]) -> str:
        """Take the arrived text that matches, without waiting."""
        match = pattern.match(self._text, self._at)
        return self.take(match.end() - self._at) if match else ""

    def certain(self, *markers: str) -> tuple[str, str]:
        """Take the text before any marker, and the marker after it, if that has arrived."""
        found = first_of(self._text, markers, self._at)
        if found is not None:
            index, marker = found
            begun = len(self._text) - partial_end(self._text, markers, self._at)
            if not self.ended and begun <= index:
                # A longer one may have begun there, or before: it would come first.
                return self.take(begun - self._at), ""
            before = self.take(index - self._at)
            self._at += len(marker)
            return before, marker
        n_begun = 0 if self.ended else partial_end(self._text, markers, self._at)
        return self.take(self.n_held - n_begun), ""


def first_of(text: str, markers: tuple[str, ...], begin: int = 0) -> tuple[int, str] | None:
    """The first marker in a text, the longest where several begin; empty ones never match."""
    if (pattern := _any_of(markers)) is not None:
        found = pattern.search(text, begin)
        return (found.start(), found[0]) if found else None
    places = ((text.find(each, begin), -len(each), each) for each in markers if each)
    first = min((each for each in places if each[0] >= 0), default=None)
    return (first[0], first[2]) if first else None


@functools.lru_cache(32)
def _any_of(markers: tuple[str, ...]) -> re.Pattern[str] | None:
    """None if there are no markers, or too long ones."""
    if sum(map(len, markers)) > MAX_PATTERN_CHARS:
        return None
    listed = sorted({each for each in markers if each}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed))) if listed else None


def partial_end(text: str, markers: tuple[str, ...], begin: int = 0) -> int:
    """Length of the longest end of `text`, from `begin` on, that a marker begins with."""
    listed, letters, longest = _begins_of(markers)
    for n in range(min(longest, len(text) - begin), 0, -1):
        if text[-n] in letters:
            end = text[-n:]
            # Those that begin with it, and are longer, come next.
            place = bisect_right(listed, end)
            if place < len(listed) and listed[place].startswith(end):
                return n
    return 0


@functools.lru_cache(32)
def _begins_of(markers: tuple[str, ...]) -> tuple[Sequence[str], frozenset[str], int]:
    """Markers in order, their first letters, and the length of the longest beginning."""
    listed = sorted({each for each in markers if each})
    longest = max(map(len, listed), default=1) - 1
    return listed, frozenset(each[0] for each in listed), longest


def finish(reading: Reading[T]) -> T:
    """Run a reader over a source that has ended."""
    try:
        next(reading)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("a reader waits for text that can't come")
