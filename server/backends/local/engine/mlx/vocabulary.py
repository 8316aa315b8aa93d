"""A model's vocabulary for grammars: every token as bytes, except for end and control tokens.

llguidance's own reading of a tokenizer treats every added token that looks like `<this>` as no
text. Yet it expects that token where a grammar requires this very text. Its mask then allows a
token that it rejects.

Here a token is text unless the tokenizer calls it special, both in the mask and after it. If a
format's marker is special, a grammar accepts both spellings of it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper
from llguidance.hf import from_tokenizer

MAX_FORCED_BYTES = 1024
"""Of a text that has to come, so much is cut into tokens at a time."""
MAX_KEPT, MAX_KEPT_BYTES = 1024, 256
_MARKER = re.compile(r'%marker ("(?:[^"\\]|\\.)*")')
_UP_TO = re.compile(r'^(\w+)\[suffix=("(?:[^"\\]|\\.)*")\]: (.*)$', re.MULTILINE)


class Vocabulary:
    """The tokens of one model. Slow to make: several seconds for a large vocabulary."""

    def __init__(self, tokenizer: Any, eos: Sequence[int]) -> None:
        """`tokenizer` is a fast one of transformers'; `eos` are all tokens that end an answer."""
        self._base = from_tokenizer(tokenizer, eos_token=list(eos))
        n_tokens = self._base.vocab_size
        self.eos = [token for token in eos if token < n_tokens]
        added = tokenizer.added_tokens_decoder
        special = {token for token, each in added.items() if each.special} | set(self.eos)
        # What llguidance's wrapper reads.
        self.eos_token_id = self._base.eos_token
        self.bos_token_id = None
        self.tokens = [self._base.decode_bytes([token]) for token in range(n_tokens)]
        self.special_token_ids = sorted(token for token in special if token < n_tokens)
        self._special = {self.tokens[token]: token for token in self.special_token_ids}
        # The same keys and quotes come in every call.
        self._kept = functools.lru_cache(MAX_KEPT)(lambda raw: tuple(self.encode(raw)))
        self.tokenizer = LLTokenizer(TokenizerWrapper(self), eos_token=list(self.eos))

    def __call__(self, text: bytes | str) -> list[int]:
        """How llguidance asks what to force: the first tokens of a text, or all of a short one.

        Each is the same as in the whole text. A client's constant may be long, and this runs
        between two steps.
        """
        raw = text.encode() if isinstance(text, str) else text
        if len(raw) > MAX_FORCED_BYTES:
            # A word and the blank before it are usually cut into tokens by themselves. More than
            # the token before has to be left, with which the text begins.
            cut = raw.rfind(b" ", MAX_FORCED_BYTES // 2, MAX_FORCED_BYTES)
            raw = raw[: cut if cut > 0 else MAX_FORCED_BYTES]
        if len(raw) > MAX_KEPT_BYTES:
            return self.encode(raw)
        return list(self._kept(raw))

    def encode(self, text: bytes | str) -> list[int]:
        """A text in tokens, none of them special."""
        raw = text.encode() if isinstance(text, str) else text
        found = self._letters(raw)
        if b"".join(self.tokens[token] for token in found) == raw:
            return found
        # A tokenizer that normalizes: the same bytes matter more than the usual tokens.
        return self._base.greedy_tokenize(raw.decode(errors="surrogateescape"))

    def _letters(self, raw: bytes) -> list[int]:
        found: list[int] = []
        for token in self._base.tokenize_bytes(raw):
            written = self.tokens[token]
            if written in self._special and len(written) > 1:
                # No tokenizer spells a special token's text on request; its halves are none.
                found += self._letters(written[:1]) + self._letters(written[1:])
            else:
                found.append(token)
        return found

    @functools.cached_property
    def _markers(self) -> re.Pattern[str] | None:
        texts = {each.decode(errors="replace") for each in self._special if each}
        longest = sorted(texts, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest))})") if longest else None

    def spelled(self, grammar: str) -> str:
        """A grammar whose markers may be special tokens of this model's, or their letters."""
        grammar = _UP_TO.sub(self._up_to, grammar)
        return _MARKER.sub(lambda found: self._literal(json.loads(found[1])), grammar)

    def _literal(self, text: str) -> str:
        return " ".join(map(self._part, self._parts(text))) or '""'

    def _parts(self, text: str) -> list[str]:
        return [part for part in self._markers.split(text) if part] if self._markers else [text]

    def _part(self, text: str) -> str:
        letters = json.dumps(text, ensure_ascii=False)
        token = self._special.get(text.encode())
        return letters if token is None else f"(<[{token}]> | {letters})"

    def _up_to(self, found: re.Match[str]) -> str:
        """A text with an end, which may also be written as a special token."""
        name, suffix, body = found[1], json.loads(found[2]), found[3]
        parts = self._parts(suffix)
        at = next((n for n, part in enumerate(parts) if part.encode() in self._special), None)
        if at is None:
            return found[0]
        token = self._special[parts[at].encode()]
        # One lexeme: the lexer takes all the text it can get, and what comes before the token too.
        before, terminal = "".join(parts[:at]), f"{name.upper()}_TOKEN"
        after = " ".join(map(self._part, parts[at + 1 :]))
        return "\n".join(
            [
                f"{name}: {name}_letters | {terminal} <[{token}]> {after}",
                f"{name}_letters[suffix={found[2]}]: {body}",
                f"{terminal}: ({body}) {json.dumps(before, ensure_ascii=False)}",
            ]
        )
