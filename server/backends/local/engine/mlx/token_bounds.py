"""A lower bound of a text's number of tokens, from its characters: pure, and fast.

Each token of a vocabulary has limited numbers of letters and digits, of signs, and of beginnings of
words. A text with more of them than a window of tokens can have is too long, in every encoding.
Only ASCII counts: normalisers keep it, except for letters before an accent.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Any

PIECE_CHARS = 32 * 1024
"""Looked at, or encoded, in one go. What is made of it is freed under the interpreter's lock."""
_LETTERS = (string.ascii_letters + string.digits).encode()
_SIGNS = string.punctuation.encode()
# As bytes: w of words, s for signs, a blank for any blank, x for what isn't ASCII.
_CLASSES = bytes(
    ord("w" if byte in _LETTERS else "s" if byte in _SIGNS else " " if byte < 128 else "x")
    for byte in range(256)
)
_BEGINNING = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]")
_LETTER, _SIGN = re.compile(r"[A-Za-z0-9]"), re.compile(r"[!-/:-@\[-`{-~]")
_SOUND_MODELS = ("BPE", "Unigram")
"""Models that make no token of their own for a word that they don't know."""


class TokenBounds:
    """The bounds of one vocabulary."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        """Of tokens in a vocabulary's spelling: ASCII letters and digits are literal."""
        self.max_letters = self.max_signs = self.max_beginnings = 1
        for token in vocabulary:
            # Most are shorter than what has been seen.
            if len(token) > self.max_letters:
                self.max_letters = max(self.max_letters, len(_LETTER.findall(token)))
            if len(token) > self.max_signs:
                self.max_signs = max(self.max_signs, len(_SIGN.findall(token)))
            if len(token) >= 2 * self.max_beginnings:
                self.max_beginnings = max(self.max_beginnings, len(_BEGINNING.findall(token)))

    def least(self, text: str) -> int:
        """A number of tokens that no encoding of the text falls short of."""
        n_letters = n_signs = n_beginnings = 0
        for piece in pieces(text):
            classes = piece.encode("utf-8", "replace").translate(_CLASSES)
            # An accent may follow the end of a piece.
            n_letters += max(0, classes.count(b"w") - classes.count(b"wx") - 1)
            n_signs += max(0, classes.count(b"s") - classes.count(b"sx") - 1)
            n_beginnings += classes.count(b" w") + classes.count(b"sw")
        return max(
            n_letters // self.max_letters,
            n_signs // self.max_signs,
            n_beginnings // self.max_beginnings,
        )


def bounds_of(backend: Any) -> TokenBounds | None:
    """The bounds of a tokenizer of the `tokenizers` library; None if it may leave letters out."""
    if type(backend.model).__name__ not in _SOUND_MODELS:
        return None
    vocabulary = backend.get_vocab(with_added_tokens=True)
    if not all(char in vocabulary for char in string.ascii_letters + string.digits):
        return None
    return TokenBounds(vocabulary)


def pieces(text: str) -> Iterable[str]:
    """A text in pieces that are cut in front of a blank, if there is one."""
    at = 0
    while at < len(text):
        end = at + PIECE_CHARS
        if end < len(text):
            blank = max(text.rfind(" ", end - 1000, end), text.rfind("\n", end - 1000, end))
            end = blank if blank > at else end
        yield text[at:end]
        at = end
