"""Control tokens of a tokenizer, and encoding in which only certain places may become some.

Two tokenizers share one model. In the second one, added tokens have spellings that no text
contains, because they include a random number of this process. Control tokens at permitted places
are respelled in this form. The text is then split, normalised and merged as usual, and any original
spelling in it is ordinary text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

Span = tuple[int, int]
"""Place of a control token in a text: its first character, and the one after its last."""


_SHORT_CHARS = 4_096


def encoding(backend: Any, text: str) -> Any:
    """Encodes a text with the `tokenizers` library, special tokens in it included.

    Its `encode` holds the interpreter's lock: two seconds for three million characters. Its batch
    method releases the lock, and makes the same tokens.
    """
    if len(text) <= _SHORT_CHARS:
        return backend.encode(text, add_special_tokens=False)
    return backend.encode_batch([text], add_special_tokens=False)[0]


class ControlTokens:
    """The control tokens of a tokenizer. For the prompt thread."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._backend = getattr(wrapper, "backend_tokenizer", None)
        unknown = getattr(wrapper, "unk_token_id", None)
        self._every = getattr(wrapper, "added_tokens_decoder", {})
        self._added = {id_: token for id_, token in self._every.items() if _steers(token)}
        self._ids = {token.content: id_ for id_, token in self._added.items()}
        self._marks = frozenset(self._added)
        # The unknown token also represents ordinary text that has no other token.
        self._never_plain = self._marks - {unknown}
        self._private: Any = None

    def spells(self, text: str) -> bool:
        """Whether a text is the spelling of one."""
        return text in self._ids

    def among(self, tokens: Iterable[int], text: str) -> list[str]:
        """The texts of the control tokens among some tokens or in a text, the longest first."""
        found = {self._added[id_].content for id_ in self._marks.intersection(tokens)}
        found |= {spelling for spelling in self._ids if spelling in text} if text else set()
        return sorted(found, key=len, reverse=True)

    def encode(self, text: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
        """Token ids of a text in which only these places are control tokens, and their ends.

        The second is empty if the tokenizer doesn't report it. Spans are in order and don't
        overlap.
        """
        if self._backend is None:
            return list(self._slowly(text, spans)), []
        tokens, ends, is_clean = self._respelled(text, spans, ())
        if not is_clean:
            # Some models make such a token from ordinary text too: it is cut, and they can't.
            tokens, ends, _ = self._respelled(text, spans, self._between(text, spans))
        return tokens, ends

    def _between(self, text: str, spans: Sequence[Span]) -> list[int]:
        """A place within each spelling of a control token that lies outside of the spans."""
        spelled = re.compile("|".join(map(re.escape, sorted(self._ids, key=len, reverse=True))))
        places, at = [], 0
        for start, end in [*spans, (len(text), len(text))]:
            while found := spelled.search(text, at, start):
                at = found.start() + 1
                places.append(at)
            at = end
        return places

    def _respelled(
        self, text: str, spans: Sequence[Span], cuts: Collection[int]
    ) -> tuple[list[int], list[int], bool]:
        """Tokens, ends, and whether no control token stands outside of the spans."""
        if self._private is None:
            self._private = _Private(self._backend, self._every, self._added)
        private = self._private
        marks = [(start, end, private.spelled[self._ids[text[start:end]]]) for start, end in spans]
        marks = sorted([*marks, *((cut, cut, private.cut) for cut in cuts)])
        pieces, at = [], 0
        for start, end, spelling in marks:
            pieces += [text[at:start], spelling]
            at = end
        encoded = encoding(private.tokenizer, "".join([*pieces, text[at:]]))
        tokens: list[int] = []
        ends: list[int] = []
        plain: set[int] = set()
        # How much longer the text has become, up to the end of each mark.
        longer, waiting = 0, iter(marks)
        mark = next(waiting, None)
        for id_, (_, end) in zip(encoded.ids, encoded.offsets, strict=True):
            while mark and end >= mark[0] + longer + len(mark[2]):
                longer += len(mark[2]) - (mark[1] - mark[0])
                mark = next(waiting, None)
            if id_ == private.cut_id:
                continue
            if id_ not in private.real:
                plain.add(id_)
            tokens.append(private.real.get(id_, id_))
            ends.append(end - longer)
        return tokens, ends, plain.isdisjoint(self._never_plain)

    def _slowly(self, text: str, spans: Sequence[Span]) -> Iterator[int]:
        """The same by pieces, for tokenizers that can't be copied."""
        cuts = [(cut, cut) for cut in self._between(text, spans)]
        at = 0
        for start, end in sorted([*spans, *cuts, (len(text), len(text))]):
            if start > at:
                yield from self._wrapper.encode(text[at:start], add_special_tokens=False)
            if end > start:
                yield self._ids[text[start:end]]
            at = end


class _Private:
    """The tokenizer whose added tokens no text can spell; it shares the model of the real one."""

    def __init__(self, backend: Any, every: dict[int, Any], added: dict[int, Any]) -> None:
        from tokenizers import AddedToken, Tokenizer

        nonce = secrets.token_hex(8)
        self.tokenizer = Tokenizer(backend.model)
        if backend.normalizer is not None:
            self.tokenizer.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            self.tokenizer.pre_tokenizer = backend.pre_tokenizer
        self.spelled = {id_: f"\U0010fff0{nonce}.{id_}\U0010fff1" for id_ in added}
        self.cut = f"\U0010fff0{nonce}.cut\U0010fff1"
        words = {id_: token for id_, token in every.items() if id_ not in added}
        own = [
            AddedToken(
                spelling,
                lstrip=added[id_].lstrip,
                rstrip=added[id_].rstrip,
                normalized=False,
                special=True,
            )
            for id_, spelling in self.spelled.items()
        ]
        cut = AddedToken(self.cut, normalized=False, special=True)
        self.tokenizer.add_tokens([*words.values(), *own, cut])
        spelled = [*((id_, token.content) for id_, token in words.items()), *self.spelled.items()]
        self.real = {self.tokenizer.token_to_id(content): id_ for id_, content in spelled}
        self.cut_id = self.tokenizer.token_to_id(self.cut)


def _steers(token: Any) -> bool:
    """Whether an added token is more than a word or blanks, which some vocabularies add too."""
    plain = token.content.replace("▁", " ").replace("_", " ")
    return bool(token.special) or not all(c.isalnum() or c.isspace() for c in plain)
