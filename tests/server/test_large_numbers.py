"""Numbers that a client may choose freely: each is served, and what is recorded of it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxdeck.server import lenient_json
from mlxdeck.server.backends.local.engine.models.model_config import token_ids
from mlxdeck.server.dialects.request_body import MAX_MENDED_BYTES, decode_object
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.branches import referred
from mlxdeck.server.schemas.pointers import pointed
from mlxdeck.server.web.hosts import hostname
from mlxdeck.telemetry.schema.attributes import MAX_COUNT
from mlxdeck.telemetry.schema.events import RequestStart
from tests.server.http import running

TURN = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"messages": TURN},
    "/v1/chat/completions": {"messages": TURN},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}
LIMITS = {"/v1/responses": "max_output_tokens"}


@pytest.mark.parametrize("number", [2**31, 2**33, 2**53, 1e30])
@pytest.mark.parametrize("path", BODIES)
async def test_any_limit_is_served_and_recorded(path: str, number: float) -> None:
    """`MemoryWriter` reads each event again, as a dashboard would."""
    body = {"model": "m", **BODIES[path], LIMITS.get(path, "max_tokens"): number}
    body |= {"top_k": number, "seed": int(number) % 2**63}
    if path == "/v1/messages":
        body["thinking"] = {"type": "enabled", "budget_tokens": number}
    async with running() as server:
        answered = await server.http.post(path, json=body)
        assert answered.status_code == 200, answered.text
        (start,) = server.telemetry.named("request.start")
    assert isinstance(start.attrs, RequestStart) and start.attrs.max_tokens == 2**30


async def test_more_messages_than_a_recording_counts_are_recorded() -> None:
    """As the most that it counts: a request that is refused is to be found too."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": "a"} for n in range(MAX_COUNT + 2)]
    async with running() as server:
        body = {"model": "m", "max_tokens": 5, "messages": turns}
        assert (await server.http.post("/v1/messages", json=body)).status_code == 400
        (start,) = server.telemetry.named("request.start")
    assert isinstance(start.attrs, RequestStart) and start.attrs.n_messages == MAX_COUNT


LONG = "9" * 5000
"""More digits than Python reads."""
TOO_LONG = "an integer has more than 4,300 digits"


def with_long(body: dict[str, Any]) -> bytes:
    """A body with an integer of 5,000 digits where `LONG` stands."""
    return json.dumps(body).replace(f'"{LONG}"', LONG).encode()


@pytest.mark.parametrize("path", BODIES)
async def test_an_integer_that_cannot_be_read_is_refused_by_its_name(path: str) -> None:
    """In our words; Python's are advice to programmers."""
    async with running() as server:
        for field in ("temperature", "made_up"):
            body = with_long({"model": "m", **BODIES[path], field: LONG})
            refused = await server.http.post(path, content=body)
            assert refused.status_code == 400, refused.text
            assert refused.json()["error"]["message"] == f"{field}: {TOO_LONG}"


@pytest.mark.parametrize("path", BODIES)
async def test_a_bias_that_no_float_holds_is_refused(path: str) -> None:
    """As any other that is out of range."""
    body = {"model": "m", **BODIES[path], "max_tokens": 5, "logit_bias": {"5": 10**400}}
    async with running() as server:
        refused = await server.http.post(path, json=body)
    assert refused.status_code == 400, refused.text
    assert "between -100 and 100, got a very large one" in refused.json()["error"]["message"]


@pytest.mark.parametrize("number", [-(10**400), -1e308])
async def test_a_budget_of_many_digits_is_not_printed(number: float) -> None:
    """The error is a sentence."""
    thinking = {"type": "enabled", "budget_tokens": number}
    body = {"model": "m", **BODIES["/v1/messages"], "max_tokens": 5, "thinking": thinking}
    async with running() as server:
        refused = await server.http.post("/v1/messages", json=body)
    assert refused.status_code == 400, refused.text
    told = refused.json()["error"]["message"]
    assert told == "thinking.budget_tokens: must be at least 1, got a very large one"


def test_a_long_integer_in_a_history_is_text() -> None:
    """It is part of what somebody's tool said; a body that is too long to be mended is refused."""
    told = {"messages": [{"role": "user", "content": [{"input": {"n": LONG}}]}]}
    assert decode_object(with_long(told)) == told
    told["system"] = [{"text": "x" * MAX_MENDED_BYTES}]
    with pytest.raises(BadRequest, match=r"not valid JSON: Integer value out of range"):
        decode_object(with_long(told))


@pytest.mark.parametrize("decode", ["loads", "decode_strictly", "decode_first"])
@pytest.mark.parametrize("text", [LONG, f'{{"a": [{LONG}]}}', f"{{'a': {LONG}}}"])
def test_no_reader_of_json_gives_advice_to_programmers(decode: str, text: str) -> None:
    """Their errors are shown to people."""
    with pytest.raises(ValueError) as error:
        getattr(lenient_json, decode)(text)
    assert "sys." not in str(error.value)
    if "'" not in text or decode == "decode_first":
        assert str(error.value) == TOO_LONG


@pytest.mark.parametrize("place", [LONG, "²", "1"])
def test_a_place_beyond_the_list_of_a_schema_is_none(place: str) -> None:
    """Whatever its digits are."""
    path, root = f"#/anyOf/{place}", {"anyOf": [{"type": "string"}]}
    assert pointed(path, root) is None and referred(path, root) == {}
    assert pointed("#/anyOf/0", root) == referred("#/anyOf/0", root) == root["anyOf"][0]


def test_other_numbers_in_texts_have_bounds() -> None:
    """Also where no client is to be told of it."""
    assert hostname(f"localhost:{LONG}") is None
    assert hostname("localhost:65535") == "localhost"
    assert token_ids(["7", LONG, 8]) == [7, 8]
