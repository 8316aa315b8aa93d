"""The sampling of a request: its own parameters, completed by the model's defaults."""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.api import ModelInfo, SamplingParams
from mlxdeck.server.chat import Sampling
from mlxdeck.server.errors import BadRequest


def defaults(
    model: ModelInfo, temperature: float | None, top_p: float | None, top_k: int | None
) -> SamplingParams:
    """For requests that don't say: as the user set it, else as the model asks."""
    return SamplingParams(
        model.temperature if temperature is None else temperature,
        model.top_p if top_p is None else top_p,
        model.top_k if top_k is None else top_k,
    )


def filled(asked: Sampling, ours: SamplingParams) -> SamplingParams:
    """The complete sampling parameters of a request."""
    return SamplingParams(
        ours.temperature if asked.temperature is None else asked.temperature,
        ours.top_p if asked.top_p is None else asked.top_p,
        ours.top_k if asked.top_k is None else asked.top_k,
        asked.min_p,
        asked.seed,
        asked.presence_penalty,
        asked.frequency_penalty,
        asked.repetition_penalty,
        asked.logit_bias,
    )


def check_biases(sampling: Sampling, vocab_tokens: int) -> None:
    """Refuse a bias for a token that the model lacks; 0 if it isn't known how many it has.

    Raises:
        BadRequest: There is one; it says which.
    """
    highest = sampling.logit_bias[-1][0] if sampling.logit_bias else 0
    if vocab_tokens and highest >= vocab_tokens:
        reason = f"the model's tokens are 0 to {vocab_tokens - 1:,}"
        raise BadRequest(f"logit_bias.{highest}", reason)
