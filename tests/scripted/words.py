"""A tokenizer whose tokens are words, so that prompts are about as long as real ones are."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from mlxdeck.server.backends.local.engine.echo import ByteTokenizer

_WORD = re.compile(r" ?[A-Za-z]{1,12}| ?\d{1,3}|\n *| +|.", re.DOTALL)


class WordTokenizer(ByteTokenizer):
    """A token is a word with the blank before it, or a sign. Ids are the same in every process."""

    def __init__(self) -> None:
        self._words: dict[int, str] = {}
        """What has been met."""

    def least_tokens(self, text: str) -> int:
        """At most twelve letters a word."""
        return len(text) // 13

    def encode(self, text: str) -> list[int]:
        """Its words."""
        found = _WORD.findall(text)
        tokens = [zlib.crc32(word.encode("utf-8", "surrogatepass")) >> 1 for word in found]
        self._words.update(zip(tokens, found, strict=True))
        return tokens

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """The same, and where each word ends."""
        return self.encode(text), [found.end() for found in _WORD.finditer(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text again; a token that this tokenizer has never met says nothing."""
        return "".join(self._words.get(token, "") for token in tokens)
