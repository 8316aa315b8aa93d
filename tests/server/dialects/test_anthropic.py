"""What is special about Anthropic's Messages API, and what its own SDK makes of our bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from mlxdeck.server.chat import Finished, TextDelta, Usage
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest, PromptTooLong
from tests.server.http import events

ANTHROPIC = DIALECTS["anthropic"]
GOLDEN = Path(__file__).parent / "golden" / "anthropic"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}


def body(**fields: Any) -> dict[str, Any]:
    """A valid request with some fields replaced; None takes one out."""
    base = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


def turn(*blocks: Any, role: str = "user") -> list[Any]:
    """A conversation of one turn."""
    return [{"role": role, "content": list(blocks)}]


BAD: list[tuple[dict[str, Any], str]] = [
    (body(messages=None), "messages: field required"),
    (body(messages=[]), "messages: at least one message is required"),
    (body(messages={}), "messages: expected a list"),
    (body(messages=["x"]), "messages.0: expected an object"),
    (body(messages=[{"role": "user"}]), "messages.0.content: field required"),
    (body(messages=[{"role": "judge", "content": ""}]), "messages.0.role: expected one of"),
    (body(messages=turn("x")), "messages.0.content.0: expected an object"),
    (body(messages=turn({"type": "text"})), "messages.0.content.0.text: field required"),
    (body(messages=turn({"kind": "song"})), "messages.0.content.0.type: field required"),
    (body(messages=turn(IMAGE)), "messages.0.content.0.image.source: Could not process image"),
    (body(messages=turn({"type": "document"})), "messages.0.content.0.document.source: Could not"),
    (body(model=None), "model: field required"),
    (body(max_tokens=None), "max_tokens: field required"),
    (body(max_tokens=0), "max_tokens: must be at least 1"),
    (body(max_tokens=True), "max_tokens: expected an integer"),
    (body(max_tokens="5"), "max_tokens: expected an integer"),
    (body(temperature=7), "temperature: must be between 0 and 1"),
    (body(temperature="warm"), "temperature: expected a number"),
    (body(top_p=-0.1), "top_p: must be between 0 and 1"),
    (body(top_k=-2), "top_k: must be at least -1"),
    (body(temperature=float("nan")), "temperature: expected a finite number, got NaN"),
    (body(temperature=10**400), "temperature: must be between 0 and 1"),
    (body(top_k=4.5), "top_k: expected an integer"),
    (body(stop_sequences="x"), "stop_sequences: expected a list"),
    (body(stop_sequences=["a", " "]), "stop_sequences.1: must not be empty"),
    (body(stream="yes"), "stream: expected true or false"),
    (body(system=[{"type": "image"}]), "system.0.type: expected 'text'"),
    (body(tools=[{"name": "a"}]), "tools.0.input_schema: field required"),
    (body(tools=[{"input_schema": {}}]), "tools.0.name: field required"),
    (body(tools=[{"name": "", "input_schema": {}}]), "tools.0.name: must not be empty"),
    (body(tools=[{"name": "a", "input_schema": {}}] * 2), "tools: tool names must be unique"),
    (body(tool_choice={"type": "any"}), "tool_choice: 'any' needs tools"),
    (
        body(tools=[{"name": "a", "input_schema": {}}], tool_choice={"type": "tool", "name": "b"}),
        "tool_choice.name: tool 'b' is not among the tools",
    ),
    (body(tool_choice={"type": "maybe"}), "tool_choice.type: expected auto"),
    (body(thinking={"type": "loud"}), "thinking.type: expected one of"),
]


@pytest.mark.parametrize(("bad", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_request_names_its_field(bad: dict[str, Any], said: str) -> None:
    """The path comes first, then what was expected there."""
    with pytest.raises(BadRequest) as refused:
        chat = ANTHROPIC.decode(json.dumps(bad).encode(), {})
        if chat.unsupported:
            # By a model on this machine.
            raise BadRequest(*chat.unsupported)
    assert said in refused.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"a": NaN}', b"[" * 10_000])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """Whatever it is, it is the client's fault and not ours."""
    with pytest.raises(BadRequest):
        ANTHROPIC.decode(raw, {})


def test_tools_that_anthropics_servers_run_are_left_out() -> None:
    """They have no schema and nobody here to run them."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    assert ANTHROPIC.decode(json.dumps(body(tools=tools)).encode(), {}).tools == ()


SESSIONS: list[tuple[dict[str, str], Any, str]] = [
    ({"x-claude-code-session-id": "abc"}, {"user_id": '{"session_id": "other"}'}, "abc"),
    ({}, {"user_id": '{"device_id": "d", "session_id": "abc"}'}, "abc"),
    (
        {},
        {"user_id": "user_1_account__session_11111111-2222-3333-4444-555555555555"},
        "11111111-2222-3333-4444-555555555555",
    ),
    ({}, {"user_id": "someone"}, ""),
    ({}, {"user_id": '{"session_id": 5}'}, ""),
    ({}, {"user_id": "[1]"}, ""),
    ({}, "nonsense", ""),
    ({}, None, ""),
]


@pytest.mark.parametrize(("headers", "metadata", "expected"), SESSIONS)
def test_the_session_is_found_where_claude_code_puts_it(
    headers: dict[str, str], metadata: Any, expected: str
) -> None:
    """In a header or, in two ways, in the metadata; anything else is no session and no error."""
    raw = json.dumps(body(metadata=metadata)).encode()
    assert ANTHROPIC.decode(raw, headers).session_id == expected


def test_agents_are_named_by_their_headers() -> None:
    """As Claude Code sends them of its sub-agents; its main one sends none."""
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    raw = json.dumps(body).encode()
    headers = {"x-claude-code-agent-id": "a1", "x-claude-code-parent-agent-id": "x" * 100}
    request = ANTHROPIC.decode(raw, headers)
    assert (request.agent_id, request.parent_agent_id) == ("a1", "x" * 64)
    request = ANTHROPIC.decode(raw, {})
    assert (request.agent_id, request.parent_agent_id) == ("", "")


def test_counting_needs_no_token_limit() -> None:
    """count_tokens takes the same body without max_tokens."""
    decoded = ANTHROPIC.decode_count(json.dumps(body(max_tokens=None)).encode(), {})
    assert decoded.messages and json.loads(ANTHROPIC.count(7)) == {"input_tokens": 7}


def test_an_error_is_what_the_sdk_expects() -> None:
    """Type, message and request id, in Anthropic's shape."""
    assert json.loads(ANTHROPIC.encode_error(PromptTooLong(20_000, 8191), "req_1")) == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 20000 tokens > 8191 maximum",
        },
        "request_id": "req_1",
    }


# Half a call is one in a stream, and text in a body.
WHOLE = sorted(path.name for path in GOLDEN.iterdir() if path.name != "cut_call")


@pytest.mark.parametrize("case", WHOLE)
def test_the_sdk_reads_body_and_stream_alike(case: str) -> None:
    """Both validate as the SDK's own types, and the stream adds up to the body."""
    message = Message.model_validate_json((GOLDEN / case / "response.json").read_text())
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    text = ""
    for name, data in events((GOLDEN / case / "stream.sse").read_text()):
        if name == "ping":
            continue
        event = adapter.validate_python(data)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
        if event.type == "message_delta":
            assert event.delta.stop_reason == message.stop_reason
            assert event.usage.output_tokens == message.usage.output_tokens
    assert text == "".join(block.text for block in message.content if block.type == "text")


def test_a_lone_surrogate_does_not_break_the_stream() -> None:
    """Text that is no valid Unicode is replaced, not fatal."""
    request = ANTHROPIC.decode(json.dumps(body()).encode(), {})
    encoder = ANTHROPIC.encoder(request, "msg_1")
    assert b"text_delta" in encoder.encode(TextDelta("a\ud800b"))
    assert b'"text"' in ANTHROPIC.encoder(request, "msg_1").collect(
        [TextDelta("a\ud800b"), Finished("end_turn", Usage(1))]
    )


def test_the_sdk_is_the_official_one() -> None:
    """These tests mean something only against the real package."""
    assert anthropic.__title__ == "anthropic"
