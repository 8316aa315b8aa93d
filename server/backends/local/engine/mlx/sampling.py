"""Sampling of a token: the processing of logits, and the draw itself. Engine thread."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler

from mlxdeck.server.backends.local.engine.api import SamplingParams

Sampler = Callable[[mx.array], mx.array]
"""Log-probabilities, shape [n, vocab], to tokens, shape [n]."""

# Below, dividing by it leaves nothing but the likeliest token, if it doesn't overflow.
LEAST_TEMPERATURE = 1e-5
# The likeliest of a million tokens has as much. What single precision takes for 0 would keep none.
LEAST_TOP_P = 1e-6
HIGHEST_LOGIT = 30_000.0


def sampler(params: SamplingParams) -> Sampler:
    """One object for all sequences with the same sampling, so that one call serves them all.

    With a seed, the sequence gets an object of its own, and shares no random numbers with others.
    """
    if params.temperature < LEAST_TEMPERATURE or params.top_p < LEAST_TOP_P:
        return greedy_sampler  # type: ignore[no-any-return]
    scaled = _scaled(params.temperature, params.top_p, params.top_k, params.min_p)
    return _shared(scaled) if params.seed is None else Seeded(scaled, params.seed)


@functools.lru_cache(maxsize=64)
def _scaled(temperature: float, top_p: float, top_k: int, min_p: float) -> Sampler:
    """Parameters of the draw."""

    def scaled(logprobs: mx.array) -> mx.array:
        # Half precision has no room for a low temperature.
        left = logprobs.astype(mx.float32)
        if top_p < 1:
            left = apply_top_p(left, top_p)
        if min_p:
            left = apply_min_p(left, min_p)
        if 0 < top_k < left.shape[-1]:
            left = apply_top_k(left, top_k)
        return left * (1 / temperature)

    return scaled


@functools.lru_cache(maxsize=64)
def _shared(scaled: Sampler) -> Sampler:
    return lambda logprobs: mx.random.categorical(scaled(logprobs))


class Seeded:
    """Draws the tokens of one sequence from its own stream of random numbers."""

    def __init__(self, scaled: Sampler, seed: int) -> None:
        self._scaled = scaled
        self._keys = [mx.random.key(seed & (1 << 64) - 1)]
        """That of the next token last, those of the last call before it."""

    def skip(self, n_tokens: int) -> None:
        """Go on as if so many tokens were drawn."""
        for _ in range(n_tokens):
            self._keys[-1], _ = mx.random.split(self._keys[-1])

    def __call__(self, logprobs: mx.array) -> mx.array:
        """Draw tokens one behind the other; the next call draws from the next numbers."""
        del self._keys[:-1]
        scaled, drawn = self._scaled(logprobs), []
        for n in range(scaled.shape[0]):
            following, key = mx.random.split(self._keys[-1])
            self._keys.append(following)
            drawn.append(mx.random.categorical(scaled[n : n + 1], key=key))
        return drawn[0] if len(drawn) == 1 else mx.concatenate(drawn)

    def back(self, n_tokens: int) -> None:
        """Take back the last tokens of the last call: the next one draws them again."""
        if n_tokens:
            del self._keys[-n_tokens:]


class Penalties:
    """A logits processor for one sequence: penalties for tokens of its answer, and its biases.

    mlx-lm's own processors look at the last twenty tokens, including the prompt's. This one looks
    at the whole answer and nothing else, as OpenAI defines it. An agent's prompt contains the very
    tokens that calls consist of.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self.written: Sequence[int] = ()
        """Tokens of the answer that are there before the first call."""
        self._counts: mx.array | None = None
        self._bias: mx.array | None = None

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Called with all tokens up to now, shape [n], and the next logits, shape [1, vocab]."""
        if self._counts is None:
            # All other tokens up to this moment are the prompt.
            self._counts = mx.zeros(logits.shape[-1])
            if self.written:
                self._counts = self._counts.at[mx.array(list(self.written))].add(1)
            self._bias = _bias(self._params.logit_bias, logits.shape[-1])
        else:
            self._counts = self._counts.at[tokens[-1:]].add(1)
        params, counts = self._params, self._counts
        held = counts > 0
        changed = logits.astype(mx.float32)
        if params.repetition_penalty != 1:
            factor = mx.where(changed < 0, params.repetition_penalty, 1 / params.repetition_penalty)
            changed = mx.where(held, changed * factor, changed)
        if params.frequency_penalty or params.presence_penalty:
            changed -= params.frequency_penalty * counts + params.presence_penalty * held
        if self._bias is not None:
            changed += self._bias
        # A small repetition penalty makes large numbers: none may be infinite in half precision.
        return mx.minimum(changed, HIGHEST_LOGIT).astype(logits.dtype)

    def takes(self, tokens: list[int]) -> int:
        """All: none is made impossible."""
        return len(tokens)

    def mark(self) -> mx.array | None:
        """What was counted up to now."""
        return self._counts

    def back(self, mark: mx.array | None) -> None:
        """Count no further than to there."""
        self._counts = mark


def penalties(params: SamplingParams) -> Penalties | None:
    """The processor that these parameters need, if any."""
    neutral = SamplingParams(params.temperature, params.top_p, params.top_k, params.min_p)
    needed = any(
        getattr(params, name) != getattr(neutral, name)
        for name in ("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias")
    )
    return Penalties(params) if needed else None


def _bias(biases: tuple[tuple[int, float], ...], n_vocab: int) -> mx.array | None:
    # An index beyond the end would overwrite other memory.
    found = [(token, bias) for token, bias in biases if 0 <= token < n_vocab]
    if not found:
        return None
    ids, values = zip(*found, strict=True)
    return mx.zeros(n_vocab).at[mx.array(ids)].add(mx.array(values))


_EXPONENTS = {mx.float32: 0x7F80_0000, mx.float16: 0x7C00, mx.bfloat16: 0x7F80}


def is_finite(logprobs: mx.array, token: int) -> bool:
    """Whether a token was sampled from valid numbers. `logprobs`, shape [vocab], has been
    evaluated.

    A single NaN logit makes all log-probabilities NaN. If one is infinite, or all are impossible,
    the token's own value shows it. Reads the value's bits from memory: an index would be computed.
    """
    view = memoryview(logprobs)[token : token + 1]  # type: ignore[arg-type]
    exponent = _EXPONENTS[logprobs.dtype]
    return int.from_bytes(view.tobytes(), sys.byteorder) & exponent != exponent
