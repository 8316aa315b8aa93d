"""A budget for thinking, over a vocabulary of letters."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxdeck.server.backends.local.engine.api import ThinkingLimit
from mlxdeck.server.backends.local.engine.mlx.thinking import ThinkingBudget

LETTERS = "abcdefghijklmnopqrstuvwxyz<>/ "
END = "</b>"


def text(ids: list[int]) -> str:
    """What tokens spell."""
    return "".join(LETTERS[i] for i in ids)


def run(prompt: str, wanted: str, *, is_open: bool, max_tokens: int) -> str:
    """What is drawn from a model that wants to write `wanted`, with a budget for thinking."""
    thinking = ThinkingLimit("<b>", END, is_open, max_tokens)
    budget = ThinkingBudget(thinking, [LETTERS.index(char) for char in END], text)
    tokens = [LETTERS.index(char) for char in prompt]
    for char in wanted:
        likely = mx.array([[1.0 * (letter == char) for letter in LETTERS]])
        logits = budget(mx.array(tokens), likely)
        tokens += mx.argmax(logits, axis=-1).tolist()  # type: ignore[arg-type]
    return text(tokens[len(prompt) :])


@pytest.mark.parametrize(
    ("is_open", "wanted", "expected"),
    [
        # Opened by the prompt: three tokens, then the end, whatever the model wants.
        (True, "aaaaaaaaaa", "aaa</b>aaa"),
        # Ended by itself in time.
        (True, "aa</b>cccc", "aa</b>cccc"),
        # Opened by the model.
        (False, "x<b>aaaaaaaaaa", "x<b>aaa</b>aaa"),
        (False, "no thoughts", "no thoughts"),
    ],
)
def test_thinking_ends_with_its_budget(is_open: bool, wanted: str, expected: str) -> None:
    """And what follows it is free."""
    assert run("hi <b>", wanted, is_open=is_open, max_tokens=3) == expected
