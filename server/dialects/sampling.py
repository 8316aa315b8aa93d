"""The sampling parameters of both dialects.

Anthropic's own API has only the first three fields. The others have the names of OpenAI and vLLM:
clients that send them know this server.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import Sampling
from mlxdeck.server.dialects.json_fields import count, number, shown, typed
from mlxdeck.server.errors import BadRequest

MAX_BIASES = 1024
MAX_STOPS = 64
MAX_STOP_CHARS = 500
_INT64 = 1 << 63


def sampling(
    fields: dict[str, Any], max_tokens: int, stops: tuple[str, ...], hottest: float
) -> Sampling:
    """Read what draws an answer; `hottest` is the API's highest temperature."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=number(fields, "temperature", 0, hottest),
        top_p=number(fields, "top_p", 0, 1),
        top_k=_top_k(fields),
        stop_sequences=stops,
        min_p=number(fields, "min_p", 0, 1) or 0.0,
        seed=_seed(fields),
        presence_penalty=number(fields, "presence_penalty", -2, 2) or 0.0,
        frequency_penalty=number(fields, "frequency_penalty", -2, 2) or 0.0,
        repetition_penalty=_repetition_penalty(fields),
        logit_bias=_logit_bias(fields),
    )


def stop_texts(listed: list[Any], path: str) -> tuple[str, ...]:
    """Texts that end an answer: each step looks for all of them, and for each of their beginnings.

    Raises:
        BadRequest: One is none, or they are too many or too long.
    """
    if len(listed) > MAX_STOPS:
        raise BadRequest(path, f"takes at most {MAX_STOPS} texts, got {len(listed)}")
    for i, each in enumerate(listed):
        at = f"{path}.{i}"
        if not typed(each, str, at):
            raise BadRequest(at, "must not be empty")
        if len(each) > MAX_STOP_CHARS:
            raise BadRequest(at, f"takes at most {MAX_STOP_CHARS} characters, got {len(each)}")
    return tuple(listed)


def _top_k(fields: dict[str, Any]) -> int | None:
    """Some say -1 for all of them."""
    top_k = count(fields, "top_k", -1)
    return None if top_k is None else max(0, top_k)


def _seed(fields: dict[str, Any]) -> int | None:
    seed = count(fields, "seed", -_INT64)
    if seed is not None and seed >= _INT64:
        raise BadRequest("seed", "must be less than 2 to the power of 63")
    return seed


def _repetition_penalty(fields: dict[str, Any]) -> float:
    """Also as llama.cpp and LM Studio call it; mlx-lm says 0 for none."""
    for name in ("repetition_penalty", "repeat_penalty"):
        if penalty := number(fields, name, 0, 2):
            return penalty
    return 1.0


def _logit_bias(fields: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    biases = typed(fields.get("logit_bias") or {}, dict, "logit_bias")
    if len(biases) > MAX_BIASES:
        raise BadRequest("logit_bias", f"takes at most {MAX_BIASES} tokens, got {len(biases)}")
    found: dict[int, float] = {}
    for key, value in biases.items():
        # The client's value may be long.
        path = f"logit_bias.{key[:20]}"
        if not (key.isascii() and key.isdigit() and len(key) <= 10):
            raise BadRequest(path, "expected the id of a token")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(path, "expected a number")
        if not -100 <= value <= 100:
            raise BadRequest(path, f"must be between -100 and 100, got {shown(value)}")
        found[int(key)] = float(value)
    return tuple(sorted((token, bias) for token, bias in found.items() if bias))
