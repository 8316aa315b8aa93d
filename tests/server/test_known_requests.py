"""Requests that come again word for word: what is read once, and what is not shared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.cache.cache_keys import digests
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text
from mlxdeck.server.dialects.anthropic.requests import Anthropic
from mlxdeck.server.lru_map import LruMap
from mlxdeck.server.schemas.known_schemas import known_tool_schema
from mlxdeck.server.schemas.normalization import tool_schema
from mlxdeck.server.web.known_bodies import KnownBodies, read
from tests.server.http import body, running
from tests.server.schemas.test_normalization import ODD

HEADERS = ("session", "agent", "other")
HI = (Message("user", (Text("Hi"),)),)


def heads() -> st.SearchStrategy[dict[str, str]]:
    """Some headers."""
    return st.dictionaries(st.sampled_from(HEADERS), st.sampled_from("ab"))


def decode(body: bytes, headers: Any) -> ChatRequest:
    """Reads a session, and of some bodies an agent too."""
    agent = headers.get("agent", "") if body.startswith(b"a") else ""
    return ChatRequest(
        body.decode(), (), HI, Sampling(1), session_id=headers.get("session", ""), agent_id=agent
    )


@given(st.lists(st.tuples(st.sampled_from([b"a", b"aa", b"b"]), heads()), max_size=12))
def test_a_known_body_is_what_would_be_read_again(asked: list[tuple[bytes, Any]]) -> None:
    """With whatever headers it comes; those that were not read make no difference."""
    known = KnownBodies(max_entries=2)
    for sent, headers in asked:
        fresh = read(decode, sent, headers)
        if (found := known.get(decode, sent, headers)) is not None:
            assert found == fresh.chat and found.body_key == fresh.chat.body_key
        known.put(decode, sent, fresh)
        other = {**headers, "other": "c"}
        assert known.get(decode, sent, other) is fresh.chat
        assert len(known) <= 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), max_size=30))
def test_a_map_of_the_last_is_bounded_both_ways(put: list[tuple[int, int]]) -> None:
    """And holds what was used last."""
    held: LruMap[int, int] = LruMap(3, 8)
    for key, size in put:
        held.put(key, -key, size)
        assert len(held) <= 3 and held.size <= 8
        assert held.get(key) == -key
    sizes = dict(put)
    assert held.size == sum(sizes[key] for key in sizes if held.get(key) is not None)


@pytest.mark.parametrize("name", [*ODD, "deep"])
def test_a_known_schema_is_read_like_a_new_one(name: str) -> None:
    """The same object each time, and what is left out of it is told each time."""
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}}
    told = ODD[name][0] if name in ODD else deep
    cuts: list[int] = []
    wanted = tool_schema(told, "p")
    found = [known_tool_schema(told, "p", lambda: cuts.append(1)) for _ in range(3)]
    assert found[0] == wanted and found[0] is found[1] is found[2]
    assert cuts == ([1, 1, 1] if name == "deep" else [])


def test_schemas_that_only_look_alike_are_kept_apart() -> None:
    """1, 1.0 and true are equal to Python; and half a pair has no bytes to be known by."""
    for value in (1, 1.0, True, "\ud800", 2**80):
        told = {"type": "object", "properties": {"a": {"const": value}}}
        read_value = known_tool_schema(told, "p")["properties"]["a"]["const"]
        assert repr(read_value) == repr(value)


async def test_a_repeat_is_read_and_digested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And still is a request of its own: with its session, its trace and its answer's id."""
    n_read, n_digested = [0], [0]
    real_decode = Anthropic.decode

    def counted_decode(self: Anthropic, raw: bytes, headers: Any) -> ChatRequest:
        n_read[0] += 1
        return real_decode(self, raw, headers)

    def counted_digests(request: ChatRequest) -> Any:
        n_digested[0] += 1
        return digests(request)

    monkeypatch.setattr(Anthropic, "decode", counted_decode)
    monkeypatch.setattr("mlxdeck.server.pipeline.digests", counted_digests)
    async with running() as server:
        sent = [await server.ask("Hi", stream=True) for _ in range(4)]
        assert (n_read, n_digested) == ([1], [1])
        assert [each.headers["x-mlxdeck-cache"] for each in sent] == ["miss", "hit", "hit", "hit"]
        ids = {each.headers["request-id"] for each in sent}
        assert len(ids) == 4 and all(
            each.text.count(each.headers["request-id"][4:]) for each in sent
        )
        other = await server.ask("Hi", stream=True, headers={"x-claude-code-session-id": "s2"})
        assert other.headers["x-mlxdeck-cache"] == "hit" and n_read == [2]
        await server.ask("Hi", stream=True, headers={"cache-control": "no-cache"})
        assert n_read == [3] and n_digested == [2]
        ends = await server.ended(6)
        starts: list[Any] = [line.attrs for line in server.telemetry.named("request.start")]
        assert [each.conversation_id for each in starts] == ["", "", "", "", "s2", ""]
        assert {each.body_bytes for each in starts} == {len(sent[0].request.content)}
        assert [each.cache_result == "exact" for each in ends] == [False, *[True] * 4, False]


async def test_a_repeat_from_ram_is_one_write_of_known_length() -> None:
    """With the same events as the first time, but for names and counts of cached tokens."""
    async with running() as server:
        first, again = [await server.ask("Hello there", stream=True) for _ in range(2)]
        assert "content-length" in again.headers and "content-length" not in first.headers
        assert again.headers["content-type"] == first.headers["content-type"]
        assert [line for line in again.text.split("\n") if line.startswith("event")] == [
            *dict.fromkeys(line for line in first.text.split("\n") if line.startswith("event"))
        ]


async def test_a_bad_request_is_refused_as_often_as_it_comes() -> None:
    """Nothing is kept of it."""
    async with running() as server:
        raw = json.dumps(body("Hi", max_tokens="many"))
        for _ in range(3):
            answer = await server.http.post("/v1/messages", content=raw)
            assert answer.status_code == 400
        assert len(server.service.requests.known) == 0
