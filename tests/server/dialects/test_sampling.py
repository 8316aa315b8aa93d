"""How all dialects are told to draw: what is read, and what is refused in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxdeck.server.chat import Sampling
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.dialects.sampling import MAX_BIASES
from mlxdeck.server.errors import BadRequest


def read(dialect: str, **fields: Any) -> Sampling:
    """What a dialect makes of them."""
    user = {"role": "user", "content": "hi"}
    body = {"model": "m", "max_tokens": 9, "messages": [user], **fields}
    if dialect == "openai_completions":
        body["prompt"] = "hi"
    if dialect == "openai_responses":
        body["input"], body["max_output_tokens"] = body.pop("messages"), body.pop("max_tokens")
    return DIALECTS[dialect].decode(json.dumps(body).encode(), {}).sampling


both = pytest.mark.parametrize("dialect", sorted(DIALECTS))


@both
def test_every_field_arrives(dialect: str) -> None:
    """Anthropic's API knows three of them; a client of this server may send the others too."""
    given = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 5,
        "min_p": 0.125,
        "seed": 7,
        "presence_penalty": -1.5,
        "frequency_penalty": 2,
        "repetition_penalty": 1.25,
        "logit_bias": {"7": -100, "5": 1.5},
    }
    read_ = read(dialect, **given)
    bias = ((5, 1.5), (7, -100.0))
    assert read_ == Sampling(9, 0.5, 0.25, 5, (), 0.125, 7, -1.5, 2.0, 1.25, bias)


@both
@pytest.mark.parametrize(
    "fields",
    [
        {},
        dict.fromkeys(("seed", "presence_penalty", "logit_bias", "min_p", "top_k"), None),
        {"presence_penalty": 0, "frequency_penalty": 0.0, "min_p": 0, "logit_bias": {}},
        {"repetition_penalty": 1.0},
        {"repetition_penalty": 0},
        {"logit_bias": {"5": 0}},
    ],
)
def test_what_changes_nothing_is_as_if_not_said(dialect: str, fields: dict[str, Any]) -> None:
    """Clients that send every default get the same answers as those that send none."""
    assert read(dialect, **fields) == Sampling(9)


@both
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"seed": "7"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 1 << 63}, "seed"),
        ({"seed": -(1 << 63) - 1}, "seed"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": "1"}, "frequency_penalty"),
        ({"repetition_penalty": -1}, "repetition_penalty"),
        ({"repeat_penalty": 3}, "repeat_penalty"),
        ({"min_p": 1.5}, "min_p"),
        ({"top_k": -2}, "top_k"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five"),
        ({"logit_bias": {"-5": 1}}, "logit_bias.-5"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias." + "9" * 20),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"5": True}}, "logit_bias.5"),
        ({"logit_bias": {str(n): 1 for n in range(MAX_BIASES + 1)}}, "logit_bias"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(
    dialect: str, fields: dict[str, Any], path: str
) -> None:
    """A 400 that names the field, never a draw that ignores it."""
    with pytest.raises(BadRequest) as refused:
        read(dialect, **fields)
    assert refused.value.message.startswith(f"{path}: ") or refused.value.path == path


def test_every_seed_of_64_bits_is_one() -> None:
    """Both ends of what OpenAI allows."""
    ends = (-(1 << 63), (1 << 63) - 1)
    assert tuple(read("openai", seed=seed).seed for seed in ends) == ends


def test_minus_one_is_no_limit_to_many_clients() -> None:
    """vLLM says it of `top_k`, LM Studio of `max_tokens`."""
    unlimited = read("openai", top_k=-1, max_tokens=-1)
    assert (
        unlimited.top_k == 0 and unlimited.max_tokens == read("openai", max_tokens=None).max_tokens
    )
    assert read("openai", repeat_penalty=1.5).repetition_penalty == 1.5
