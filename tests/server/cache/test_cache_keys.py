"""What is in the key of an answer: all that draws it, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.cache.cache_keys import ASIDE, answer_key, digests
from mlxdeck.server.chat import (
    ChatRequest,
    ClientBody,
    Message,
    RawPrompt,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    ToolSpec,
    ToolUse,
)

SAMPLING = Sampling(100)
WRITE = ToolSpec("Write", "", {"type": "object"})
REQUEST = ChatRequest(
    "local", ("Be brief.",), (Message("user", (Text("hi"),)),), SAMPLING, (WRITE,)
)
OTHERS: dict[str, Any] = {
    "model": "another name",
    "system": (),
    "messages": (Message("user", (Text("ho"),)),),
    "sampling": Sampling(101),
    "tools": (ToolSpec("Read", "", {"type": "object"}),),
    "tool_choice": ToolChoice(parallel=False),
    "stream": True,
    "thinking": True,
    "thinking_tokens": 5,
    "effort": "low",
    "template_options": {"enable_thinking": False},
    "answer_schema": {"type": "object"},
    "answer_field": "response_format",
    "answer_strict": True,
    "stream_usage": False,
    "session_id": "abc",
    "agent_id": "a1",
    "parent_agent_id": "a0",
    "agent_name": "Explore",
    "history_notes": ("told compaction 1",),
    "is_long": True,
    "is_short": False,
    "body_key": "abc",
    "raw": RawPrompt(),
    "client": ClientBody("anthropic", {"max_tokens": 1}),
    "owner": "abc",
    "unsupported": ("messages.0.content.0", "no pictures"),
    "refers_to": ("resp_1",),
    "answer_form": {"store": False},
}
"""Another value for each field of a request. A new field needs one here."""
DRAWS: dict[str, Any] = {
    "max_tokens": 99,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop_sequences": ("x",),
    "min_p": 0.5,
    "seed": 1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 0.5,
    "logit_bias": ((1, 0.5),),
}
"""The same for each field of its sampling."""


def key(request: ChatRequest, signature: str = "weights", clock: tuple[str, ...] = ()) -> str:
    """A request's key."""
    return answer_key(digests(request), request, signature, clock)


def test_every_field_has_another_value_here() -> None:
    """A field that is new shows what it does to the key."""
    assert set(OTHERS) == {each.name for each in dataclasses.fields(ChatRequest)}
    assert set(DRAWS) == {each.name for each in dataclasses.fields(Sampling)}


@pytest.mark.parametrize("name", OTHERS)
def test_what_draws_an_answer_is_in_its_key(name: str) -> None:
    """And who asks, for whom, and how it is sent is not."""
    other = dataclasses.replace(REQUEST, **{name: OTHERS[name]})
    assert (key(other) == key(REQUEST)) == (name in ASIDE)


def test_a_choice_among_no_tools_is_none() -> None:
    """Some clients send one with every request."""
    plain = dataclasses.replace(REQUEST, tools=())
    for choice in (ToolChoice(parallel=False), ToolChoice("none")):
        assert key(dataclasses.replace(plain, tool_choice=choice)) == key(plain)


@pytest.mark.parametrize("name", DRAWS)
def test_every_way_of_drawing_is_in_the_key(name: str) -> None:
    """Asking for another draw gives another answer."""
    other = dataclasses.replace(SAMPLING, **{name: DRAWS[name]})
    assert key(dataclasses.replace(REQUEST, sampling=other)) != key(REQUEST)


def test_the_weights_and_the_clock_are_in_the_key() -> None:
    """The same request on another day is another one where the template prints the day."""
    keys = {key(REQUEST), key(REQUEST, "others"), key(REQUEST, clock=("1",)), key(REQUEST, "1")}
    assert len(keys) == 4


def test_the_order_of_keys_in_a_schema_is_none() -> None:
    """Clients write the same object in whatever order."""
    one, two = ({"type": "object", "required": []}, {"required": [], "type": "object"})
    requests = [dataclasses.replace(REQUEST, answer_schema=each) for each in (one, two)]
    assert key(requests[0]) == key(requests[1])


blocks = st.one_of(
    st.builds(Text, st.sampled_from("ab")),
    st.builds(Thinking, st.sampled_from("ab")),
    st.builds(ToolUse, st.just("1"), st.sampled_from("ab"), st.just({})),
)
requests = st.builds(
    ChatRequest,
    st.just("local"),
    st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
    st.lists(
        st.builds(
            Message,
            st.sampled_from(["user", "assistant"]),
            st.lists(blocks, min_size=1, max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.builds(
        Sampling,
        st.sampled_from([1, 2]),
        seed=st.sampled_from([None, 0, 1]),
        temperature=st.sampled_from([None, 0.0, 1.0]),
        logit_bias=st.sampled_from([(), ((1, 2.0),), ((2, 1.0),), ((1, 1.0), (2, 2.0))]),
        stop_sequences=st.sampled_from([(), ("a",), ("a", "b"), ("ab",)]),
    ),
)


@given(requests, requests)
def test_only_equal_requests_share_a_key(one: ChatRequest, other: ChatRequest) -> None:
    """Two that differ in anything that a model sees or that draws have two keys."""
    assert (key(one) == key(other)) == (one == other)
