"""Whatever another server sends, a reader understands it or says why not."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.upstream.anthropic import AnthropicReader
from mlxdeck.server.backends.upstream.failures import MASK, error_of, masked
from mlxdeck.server.backends.upstream.openai_chat import OpenAIReader
from mlxdeck.server.backends.upstream.reading import OutOfOrder
from mlxdeck.server.chat import (
    Event,
    Finished,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolSpec,
)
from mlxdeck.server.dialects.registry import DIALECTS

TOOLS = (ToolSpec("read", "", {"type": "object"}),)
WORDS = (
    *("type", "index", "message", "content_block", "delta", "text", "text_delta", "thinking"),
    *("thinking_delta", "tool_use", "input_json_delta", "partial_json", "id", "name", "input"),
    *("usage", "input_tokens", "output_tokens", "stop_reason", "end_turn", "choices", "content"),
    *("tool_calls", "function", "arguments", "finish_reason", "stop", "role", "reasoning"),
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "ping", "error", "citations", "signature_delta", "data"),
)
NAMES = st.sampled_from(WORDS)
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(0, 1) | NAMES | st.just("")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
KINDS = st.sampled_from([word for word in WORDS if "message" in word or "block" in word])
EVENTS = st.builds(lambda kind, rest: {**rest, "type": kind}, KINDS, OBJECTS) | OBJECTS
STARTS: dict[type[Any], list[dict[str, Any]]] = {
    AnthropicReader: [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ],
    OpenAIReader: [{"choices": [{"delta": {"content": "x"}}]}],
}


@pytest.mark.parametrize("reader", [AnthropicReader, OpenAIReader])
@settings(max_examples=60)
@given(events=st.lists(EVENTS, max_size=6), begun=st.booleans())
def test_any_events_can_be_encoded_or_are_out_of_order(
    reader: type[Any], events: list[dict[str, Any]], begun: bool
) -> None:
    """In every API of ours, streamed and as one body; there is one end at most."""
    reading = reader(TOOLS)
    items: list[Any] = []
    try:
        for event in [*(STARTS[reader] if begun else []), *events]:
            items += reading.read(event)
            if reading.is_done:
                break
        else:
            items += reading.close()
    except OutOfOrder:
        assert not any(isinstance(item, Finished) for item in items)
    said = [item for item in items if isinstance(item, Event)]
    ask = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "q"}]}
    for dialect in DIALECTS.values():
        if dialect.name not in ("anthropic", "openai"):
            continue
        chat = dialect.decode(str(ask).replace("'", '"').encode(), {})
        encoder = dialect.encoder(chat, "msg_1")
        for item in said:
            encoder.encode(item)
        if said and isinstance(said[-1], Finished):
            dialect.encoder(chat, "msg_1").collect(said)


@pytest.mark.parametrize("reader", [AnthropicReader, OpenAIReader])
@settings(max_examples=40)
@given(body=OBJECTS)
def test_any_body_is_an_answer_or_out_of_order(reader: type[Any], body: dict[str, Any]) -> None:
    """Also one with the right names and wrong values."""
    for told in (body, {**body, "type": "message", "content": [body]}, {"choices": [body]}):
        with suppress(OutOfOrder):
            list(reader(TOOLS).whole(told))


@settings(max_examples=40)
@given(told=VALUES, status=st.sampled_from([0, 400, 404, 418, 500, 529, 599]))
def test_any_error_has_a_status_a_type_and_a_text(told: Any, status: int) -> None:
    """Of those that clients know."""
    for shape in (told, {"error": told}, {"type": "error", "error": told}):
        error = error_of(shape, status, "up", "key-0123456789", "openai")
        assert 400 <= error.status < 600
        assert error.kind.endswith("_error") or error.kind == "request_too_large"
        assert error.message


@given(key=st.text("abcdefghij-0123", min_size=8, max_size=40), before=st.text(max_size=20))
def test_a_key_is_masked_wherever_it_is(key: str, before: str) -> None:
    """Also the larger part of it, as some servers echo it."""
    assert key not in masked(f"{before}{key} is wrong", key)
    assert key[:8] not in masked(f"{before}{key[:8]}*** is wrong", key).replace(MASK, "")


@pytest.mark.parametrize("later_id", ["call_1", "", None, "another"])
def test_pieces_of_one_call_are_one_call(later_id: str | None) -> None:
    """Whatever id the later pieces have; only a name begins another call of the same index."""
    first = {"index": 0, "id": "call_1", "function": {"name": "read", "arguments": '{"a"'}}
    later = {"index": 0, "id": later_id, "function": {"arguments": ": 1}"}}
    second = {"index": 0, "id": "call_2", "function": {"name": "read", "arguments": "{}"}}
    reading, items = OpenAIReader(TOOLS), list[Any]()
    for call in (first, later, second):
        items += reading.read({"choices": [{"delta": {"tool_calls": [call]}}]})
    calls = [item.id for item in items if isinstance(item, ToolCallStart)]
    assert calls == ["call_1", "call_2"]
    arguments = [item.json for item in items if isinstance(item, ToolCallDelta)]
    assert arguments == ['{"a"', ": 1}", "{}"]


CALLS: tuple[dict[str, Any], ...] = (
    {"a": 'x"}{\\'},
    {"b": [1, {"c": "]"}]},
    {},
    {"d": "\u00e9" * 9},
)
"""With all that could be taken for an end."""


@settings(max_examples=60)
@given(data=st.data())
def test_calls_whose_pieces_alternate_are_told_one_after_the_other(data: st.DataObject) -> None:
    """In whatever order the pieces come: each call is whole, and none is lost."""
    chosen = data.draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=4))
    pieces: list[list[dict[str, Any]]] = []
    for index, arguments in enumerate(chosen):
        text, listed = json.dumps(arguments), list[dict[str, Any]]()
        while text:
            n = data.draw(st.integers(1, len(text)))
            listed.append({"index": index, "function": {"arguments": text[:n]}})
            text = text[n:]
        listed[0]["function"]["name"], listed[0]["id"] = "read", f"call_{index}"
        pieces.append(listed)
    reading, items = OpenAIReader(TOOLS), list[Any]()
    while any(pieces):
        begun = next((n for n, each in enumerate(pieces) if each and "id" in each[0]), 9)
        at = data.draw(st.sampled_from([n for n, each in enumerate(pieces) if each and n <= begun]))
        items += reading.read({"choices": [{"delta": {"tool_calls": [pieces[at].pop(0)]}}]})
    items += reading.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    items += reading.close()
    told: dict[str, str] = {}
    for item in items:
        if isinstance(item, ToolCallStart):
            current = item.id
            assert current not in told
            told[current] = ""
        elif isinstance(item, ToolCallDelta):
            told[current] += item.json
    assert {name: json.loads(text) for name, text in told.items()} == {
        f"call_{n}": arguments for n, arguments in enumerate(chosen)
    }
    assert sum(isinstance(item, ToolCallEnd) for item in items) == len(chosen)


def test_what_comes_behind_the_end_of_a_call_and_says_nothing_is_no_fault() -> None:
    """Also where hundreds of calls wait for the first one."""
    n_calls = 600
    calls: list[dict[str, Any]] = [
        {"index": n, "id": f"call_{n}", "function": {"name": "read", "arguments": "{}" * bool(n)}}
        for n in range(n_calls)
    ]
    behind = [{"index": n, "function": {"arguments": ""}} for n in range(n_calls)]
    first = {"index": 0, "function": {"arguments": "{}"}}
    reading, items = OpenAIReader(TOOLS), list[Any]()
    for piece in (*calls, *behind, first, *behind):
        items += reading.read({"choices": [{"delta": {"tool_calls": [piece]}}]})
    items += reading.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    items += reading.close()
    started = [item.id for item in items if isinstance(item, ToolCallStart)]
    assert started == [f"call_{n}" for n in range(n_calls)]
    assert "".join(item.json for item in items if isinstance(item, ToolCallDelta)) == "{}" * n_calls
    assert sum(isinstance(item, ToolCallEnd) for item in items) == n_calls


def test_text_within_a_call_comes_behind_it() -> None:
    """No piece of the call is lost, and none of the text; the next call comes behind both."""
    reading, items = OpenAIReader(TOOLS), list[Any]()
    first = {"index": 0, "id": "call_1", "function": {"name": "read", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    other = {"index": 1, "id": "call_2", "function": {"name": "read", "arguments": "{}"}}
    for deltas in ([first], "Well.", [rest], [other]):
        key = "content" if isinstance(deltas, str) else "tool_calls"
        items += reading.read({"choices": [{"delta": {key: deltas}}]})
    items += reading.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    items += reading.close()
    one = [ToolCallStart, ToolCallDelta, ToolCallDelta, ToolCallEnd]
    two = [ToolCallStart, ToolCallDelta, ToolCallEnd, Finished]
    assert [type(item) for item in items[1:]] == [*one, TextDelta, *two]
    told = "".join(item.json for item in items if isinstance(item, ToolCallDelta))
    assert told == '{"a": 1}{}'


def test_a_name_may_come_behind_its_id() -> None:
    """The call keeps the id."""
    reading, items = OpenAIReader(TOOLS), list[Any]()
    for call in (
        {"index": 0, "id": "call_7", "function": {"arguments": ""}},
        {"index": 0, "function": {"name": "read", "arguments": "{}"}},
    ):
        items += reading.read({"choices": [{"delta": {"tool_calls": [call]}}]})
    assert [item.id for item in items if isinstance(item, ToolCallStart)] == ["call_7"]
