"""What the same tokens would have cost elsewhere. Prices are in dollars a million tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PRICES_DATE = "2025-11"
"""When the table below was right; prices change, and `--price` takes the user's own."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens cost."""

    name: str
    input: float
    cached: float
    """Of a prompt token that a cache knew."""
    output: float


LISTED: Mapping[str, Prices] = {
    each.name: each
    for each in (
        Prices("claude-opus-4.5", 5.0, 0.5, 25.0),
        Prices("claude-sonnet-4.5", 3.0, 0.3, 15.0),
        Prices("claude-haiku-4.5", 1.0, 0.1, 5.0),
        Prices("gpt-5", 1.25, 0.125, 10.0),
        Prices("gpt-5-mini", 0.25, 0.025, 2.0),
    )
}


@dataclass(frozen=True, slots=True)
class Money:
    """Dollars."""

    prices: Prices
    date: str
    """Of the table; empty for prices of the user's own."""
    cost: float
    """All tokens of prompts and answers, those from a cache at the price of cached ones."""
    uncached: float
    """The same if nothing had been known."""

    @property
    def saved(self) -> float:
        """What the caches would have saved there."""
        return self.uncached - self.cost


def money(prices: Prices, n_input: int, n_cached: int, n_output: int) -> Money:
    """What tokens cost; `n_cached` are among `n_input`."""
    written = n_output * prices.output
    cost = (n_input - n_cached) * prices.input + n_cached * prices.cached + written
    uncached = n_input * prices.input + written
    date = PRICES_DATE if LISTED.get(prices.name) == prices else ""
    return Money(prices, date, cost / MILLION, uncached / MILLION)


def prices_of(text: str) -> Prices:
    """Prices by a model's name in any usual spelling, or as `INPUT,OUTPUT`, `INPUT,CACHED,OUTPUT`.

    Raises:
        ValueError: It is neither.
    """
    if found := _BY_WORDS.get(_words(text)):
        return found
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(0 <= each < float("inf") for each in numbers):
        raise ValueError(
            f"expected INPUT,OUTPUT or INPUT,CACHED,OUTPUT in dollars a million tokens,"
            f" or one of {', '.join(LISTED)}"
        )
    cached = numbers[1] if len(numbers) == 3 else numbers[0]
    return Prices("own", numbers[0], cached, numbers[-1])


_DATE = re.compile(r"\b20\d\d-?\d\d-?\d\d\b")
_REVISION = re.compile(r"-v\d+(:\d+)?$")
_WORD = re.compile(r"[a-z]+|\d+")
_SAID_BESIDE = {
    *("anthropic", "openai", "claude", "latest", "models", "bedrock", "vertex"),
    *("us", "eu", "apac", "jp", "au", "global", "openrouter", "azure"),
}
"""Words that vendors and regions put around a name, or leave out."""


def _words(name: str) -> tuple[str, ...]:
    """What a name of a model says, however it is spelt: `us.anthropic.claude-opus-4-5-v1:0`.

    The words are in no order, as some put the version in front of `opus`.
    """
    bare = _REVISION.sub("", _DATE.sub("", name.strip().lower()))
    return tuple(sorted(word for word in _WORD.findall(bare) if word not in _SAID_BESIDE))


_BY_WORDS = {_words(name): prices for name, prices in LISTED.items()}
