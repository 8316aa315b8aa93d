"""Prompts that can't fit, told by their letters and by their pieces."""

from __future__ import annotations

import functools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.echo import ByteTokenizer
from mlxdeck.server.backends.local.engine.mlx import token_bounds
from mlxdeck.server.backends.local.engine.mlx.control_tokens import encoding
from mlxdeck.server.backends.local.engine.mlx.token_bounds import TokenBounds, bounds_of, pieces
from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer
from mlxdeck.server.backends.local.prompt.length import MARGIN, check_length, check_texts
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, Thinking, ToolResult
from mlxdeck.server.errors import PromptTooLong
from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.zoo.vocabularies import Unavailable

LIMIT = 1_000


@functools.cache
def bounds(name: str) -> tuple[MlxTokenizer, TokenBounds]:
    """A family's tokenizer and its bounds."""
    found = tokenizer(name)
    known = bounds_of(found.wrapper.backend_tokenizer)
    assert known is not None
    return found, known


WORDS = st.sampled_from(
    ["addEventListener", "translatesAutoresizingMaskIntoConstraints", "a", "A1", "the", "e\u0301",
     "ﬁ", "１", "é", "数据", "\u200d", "<|im_end|>", "<eos>", "=" * 40, "\n" * 30, " " * 60]
)  # fmt: skip
WRITTEN = st.lists(WORDS | st.text(max_size=8), max_size=40).map("".join)


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_no_encoding_falls_short_of_the_bound(name: str) -> None:
    """Whatever the text: accents that join, ligatures, control tokens, long runs."""
    try:
        found, known = bounds(name)
    except Unavailable as reason:
        pytest.skip(str(reason))

    @settings(max_examples=60, deadline=None)
    @given(WRITTEN)
    def holds(text: str) -> None:
        assert known.least(text) <= len(found.encode(text))

    holds()
    longest = max(found.wrapper.backend_tokenizer.get_vocab(), key=len)
    assert known.least(longest.encode("ascii", "ignore").decode() * 50) <= 51 * 50
    # And it is of use: of English, a sixth of the tokens is known of at least.
    english = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 200
    assert known.least(english) * 6 > len(found.encode(english))


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_a_batch_has_the_tokens_of_a_single_text(name: str) -> None:
    """And they end in the same places; only the batch lets other threads run meanwhile."""
    try:
        backend = bounds(name)[0].wrapper.backend_tokenizer
    except Unavailable as reason:
        pytest.skip(str(reason))
    text = "def f(x):\n\treturn 'ü数据😀' + <|im_end|>\n\n\n    # e\u0301 done  \r\n" * 100
    alone, batched = backend.encode(text, add_special_tokens=False), encoding(backend, text)
    assert len(text) > 4_096
    assert (alone.ids, alone.offsets) == (batched.ids, batched.offsets)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \né"), max_size=60), st.integers(1, 9))
@example(" aaaé", 4)
def test_pieces_are_the_text(text: str, size: int) -> None:
    """All of it, none longer than it may be; cuts raise the bound by one token at most."""
    known = TokenBounds(["a", "ab", "b a"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_bounds, "PIECE_CHARS", size)
        cut = list(pieces(text))
        assert "".join(cut) == text
        assert all(0 < len(each) <= size for each in cut)
        least = known.least(text)
    # The end of each piece is one letter less, as an accent may follow; so is the end of the text.
    assert least <= known.least(text) + 1


class Counting(ByteTokenizer):
    """A token for four bytes or less, and a record of how much was encoded."""

    def __init__(self, *, tells: bool = True) -> None:
        self.tells, self.n_encoded = tells, 0

    def least_tokens(self, text: str) -> int:
        return len(text) // 8 if self.tells else 0

    def count(self, text: str, enough: int) -> int:
        self.n_encoded += min(len(text), 4 * enough)
        return min(len(text) // 4, enough)

    def encode(self, text: str) -> list[int]:
        self.n_encoded += len(text)
        return [1] * (len(text) // 4)


def asked(*texts: str, role: str = "user") -> ChatRequest:
    """A request with those turns."""
    turns = tuple(Message(role, (Text(text),)) for text in texts)  # type: ignore[arg-type]
    return ChatRequest("m", (), turns, Sampling(9))


def test_texts_that_can_not_fit_are_refused_unrendered() -> None:
    """With an estimate of how long they are, from their beginning alone."""
    found = Counting()
    with pytest.raises(PromptTooLong) as refused:
        check_texts(found, asked("x" * 3_000_000, "y" * 1_000_000), LIMIT)
    assert refused.value.limit_tokens == LIMIT
    assert 900_000 < refused.value.n_tokens <= 1_000_001
    assert found.n_encoded <= 20_000
    check_texts(found, asked("x" * 8 * LIMIT), LIMIT)


def test_what_templates_leave_out_does_not_count() -> None:
    """Thinking, and texts of the assistant's; what tools return does."""
    thought = Message("assistant", (Thinking("x" * 100_000), Text("y" * 100_000)))
    check_texts(Counting(), ChatRequest("m", (), (thought,), Sampling(9)), LIMIT)
    said = Message("user", (ToolResult("1", "x" * 100_000),))
    with pytest.raises(PromptTooLong):
        check_texts(Counting(), ChatRequest("m", (), (said,), Sampling(9)), LIMIT)
    with pytest.raises(PromptTooLong):
        check_texts(Counting(), ChatRequest("m", ("x" * 100_000,), (), Sampling(9)), LIMIT)


def test_more_messages_than_tokens_can_not_fit() -> None:
    """Each has a token of its own at least."""
    with pytest.raises(PromptTooLong):
        check_texts(Counting(), asked(*"x" * 2 * (LIMIT + 1)), LIMIT)
    check_texts(Counting(), asked(*"x" * LIMIT), LIMIT)


def test_of_a_rendered_prompt_no_more_is_encoded_than_shows_that_it_is_too_long() -> None:
    """Where the letters don't tell."""
    found = Counting(tells=False)
    with pytest.raises(PromptTooLong):
        check_length(found, "=" * 10_000_000, LIMIT)
    assert found.n_encoded <= 4 * MARGIN * LIMIT + 20_000
    found = Counting(tells=False)
    check_length(found, "=" * 4 * LIMIT, LIMIT)
    assert found.n_encoded == 0
