"""What a text has to be like: hold a part, be the same, or fit a pattern with `*`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mlxdeck.telemetry.query.lexer import Value


@dataclass(frozen=True)
class TextPattern:
    """True of texts in lower case; equal ones are true of the same texts."""

    text: str
    is_whole: bool = False
    """Whether it has to be all of the text."""
    is_glob: bool = False
    """Whether `*` stands for any characters."""
    between: str = ""
    """What separates the texts of a list; one of them has to fit."""
    spared: str = ""
    """A text of a list that is found by its name alone."""
    typed: str = field(default="", compare=False)
    """The text in upper and lower case, for texts that are not in lower case."""

    def among(self, texts: Sequence[str]) -> list[bool]:
        """For each of some texts in lower case whether it is true of it."""
        wanted = self.text
        if self.between:
            return [any(map(self._fits, text.split(self.between))) for text in texts]
        if not self.is_whole:
            return [wanted in text for text in texts]
        return list(map(self._fits, texts))

    def _fits(self, text: str) -> bool:
        if not self.is_whole:
            return self.text in text and text != self.spared
        if self.is_glob:
            return bool(text) and self._regex.fullmatch(text) is not None
        return text == self.text

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self.text.split("*"))), re.DOTALL)


def pattern(sign: str, value: Value, between: str = "") -> TextPattern:
    """Of `:` a part is enough, of `=` it is all of the text; a `*` makes it a pattern of all."""
    is_glob = "*" in value.text and not value.is_quoted
    whole = sign == "=" or is_glob
    return TextPattern(value.text.lower(), whole, is_glob, between, typed=value.text)


def part(text: str) -> TextPattern:
    """A part of a text, with any characters for each `*` in it."""
    if "*" in text:
        return TextPattern(f"*{text.lower()}*", is_whole=True, is_glob=True)
    return TextPattern(text.lower(), typed=text)


KNOWN = TextPattern("*", is_whole=True, is_glob=True)
"""Any text but the empty one."""
