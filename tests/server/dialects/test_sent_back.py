"""Whatever the encoders of both dialects send can be sent back as history, in either dialect.

Answers are collected as clients do it: arguments that are no JSON stay the text that they are, or
become what the SDK makes of a part of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jiter import from_json

from mlxdeck.server import chat as m
from mlxdeck.server.cache.cache_keys import digests
from mlxdeck.server.canonicalize import canonical
from mlxdeck.server.dialects.history.call_inputs import CallInputs
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest, EngineFailed
from tests.server.dialects.test_dialects import json_values

# Halves of surrogate pairs among them.
texts = st.text(st.characters(exclude_categories=()), max_size=8)
arguments = st.dictionaries(texts, json_values, max_size=3).map(json.dumps)
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]
ASK = {"role": "user", "content": "Do it."}
BOTH = ("anthropic", "openai")
"""Whose conversations are messages."""


@st.composite
def calls(draw: st.DrawFn, *, cut: bool) -> list[m.Event]:
    """A call in pieces, whole or broken off anywhere."""
    whole = draw(arguments)
    written = whole[: draw(st.integers(0, len(whole)))] if cut else whole
    middle = draw(st.integers(0, len(written)))
    pieces = [m.ToolCallDelta(piece) for piece in (written[:middle], written[middle:]) if piece]
    start = m.ToolCallStart(draw(st.sampled_from(["c1", "c2", "c3"])), draw(st.just("f") | texts))
    return [start, *pieces] if cut else [start, *pieces, m.ToolCallEnd("json_tags")]


said = st.one_of(texts.map(lambda text: [m.TextDelta(text)]), st.just([m.Ping()]))
thought = texts.map(lambda text: [m.ThinkingDelta(text)])


@st.composite
def answers(draw: st.DrawFn) -> list[m.Event]:
    """Every event of an answer; one that broke off has no `Finished`."""
    parts = draw(st.lists(said | thought | calls(cut=False), max_size=5))
    if draw(st.booleans()):
        parts.append(draw(calls(cut=True)))
    reasons: tuple[m.StopReason | None, ...] = ("end_turn", "max_tokens", "tool_use", None)
    reason = draw(st.sampled_from(reasons))
    end = [m.Finished(reason, m.Usage(1))] if reason else []
    return [m.Started(m.Usage(1)), *(event for part in parts for event in part), *end]


def data_of(stream: bytes) -> Iterator[Any]:
    """What the stream's events say."""
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def partly(written: str) -> Any:
    """Arguments as the SDK reads them while they come; as they are where it can't."""
    try:
        return from_json(written.encode() or b"{}", partial_mode=True)
    except (ValueError, UnicodeEncodeError):
        return written


def of_anthropic(stream: bytes, *, partial: bool) -> list[dict[str, Any]]:
    """The blocks that a client has collected."""
    blocks: list[dict[str, Any]] = []
    for data in data_of(stream):
        if data["type"] == "content_block_start":
            blocks.append(dict(data["content_block"]))
            if blocks[-1]["type"] == "tool_use":
                blocks[-1]["input"] = ""
        elif data["type"] == "content_block_delta":
            (key, value) = next((k, v) for k, v in data["delta"].items() if k != "type")
            name = "input" if key == "partial_json" else key
            blocks[-1][name] = blocks[-1].get(name, "") + value
    for block in blocks:
        if block["type"] == "tool_use":
            written = block["input"]
            block["input"] = partly(written) if partial else loaded(written)
    return blocks


def loaded(written: str) -> Any:
    """Arguments where they are JSON, else the text that they are."""
    try:
        return json.loads(written or "{}")
    except ValueError:
        return written


def of_openai(stream: bytes) -> dict[str, Any]:
    """The message that a client has collected."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
    for data in data_of(stream):
        for choice in data.get("choices", ()):
            delta = choice["delta"]
            for key in ("content", "reasoning_content"):
                if delta.get(key):
                    message[key] = message.get(key, "") + delta[key]
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    message["tool_calls"].append(json.loads(json.dumps(call)))
                else:
                    function = message["tool_calls"][call["index"]]["function"]
                    function["arguments"] += call["function"]["arguments"]
    if not message["tool_calls"]:
        message["tool_calls"] = None
    return message


def as_openai(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks as a client turns them into a message of the other API."""
    made = [
        {
            "id": block["id"],
            "type": "function",
            "function": {
                "name": block["name"],
                "arguments": block["input"]
                if isinstance(block["input"], str)
                else json.dumps(block["input"]),
            },
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    content = "".join(block["text"] for block in blocks if block["type"] == "text")
    return {"role": "assistant", "content": content or None, "tool_calls": made or None}


def as_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The other way round."""
    blocks: list[dict[str, Any]] = []
    if message["content"]:
        blocks.append({"type": "text", "text": message["content"]})
    for call in message["tool_calls"] or ():
        function = call["function"]
        block = {"type": "tool_use", "id": call["id"], "name": function["name"]}
        blocks.append({**block, "input": loaded(function["arguments"])})
    return blocks


def decoded(name: str, turns: list[dict[str, Any]]) -> m.ChatRequest:
    """A conversation through a dialect, and as far as the key of its answer."""
    tools: list[Any] = TOOLS
    if name == "openai":
        tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"model": "m", "max_tokens": 9, "tools": tools, "messages": [ASK, *turns]}
    request = DIALECTS[name].decode(json.dumps(body).encode(), {})
    digests(canonical(request)[0])
    return request


def sent_back(name: str, answer: dict[str, Any]) -> m.ChatRequest:
    """An answer with results and without them, then with more said."""
    # Most clients write no escapes, so they can't send what is no text.
    json.dumps(answer, ensure_ascii=False).encode()
    if name == "anthropic":
        uses = [block for block in answer["content"] if block["type"] == "tool_use"]
        done = [{"type": "tool_result", "tool_use_id": use["id"], "content": "x"} for use in uses]
        results = [{"role": "user", "content": [*done, {"type": "text", "text": "Go on."}]}]
    else:
        ids = [call["id"] for call in answer["tool_calls"] or ()]
        results = [{"role": "tool", "tool_call_id": each, "content": "x"} for each in ids]
    decoded(name, [answer])
    decoded(name, [answer, *results])
    return decoded(name, [answer, *results, ASK, answer, *results, ASK])


def check(request: m.ChatRequest, events: list[m.Event]) -> None:
    """Every call is there under its name, twice, and every one has its own result."""
    blocks = [block for message in request.messages for block in message.blocks]
    uses = [block for block in blocks if isinstance(block, m.ToolUse)]
    named = [event.name for event in events if isinstance(event, m.ToolCallStart)]
    assert len(uses) == 2 * len(named)
    assert len({use.id for use in uses}) == len(uses)
    found = [block.tool_use_id for block in blocks if isinstance(block, m.ToolResult)]
    assert sorted(found) == sorted(use.id for use in uses)


@settings(max_examples=120)
@given(answers(), st.booleans())
def test_what_is_streamed_comes_back(events: list[m.Event], partial: bool) -> None:
    """Whole, cut off or broken off, and through a client that speaks both APIs."""
    request = m.ChatRequest("m", (), (m.Message("user", ()),), m.Sampling(1))
    streams = {}
    for name in BOTH:
        encoder = DIALECTS[name].encoder(request, "msg_1")
        pieces = [encoder.encode(event) for event in events]
        if not isinstance(events[-1], m.Finished):
            pieces.append(encoder.error(EngineFailed("it broke off")))
        streams[name] = b"".join(pieces)
    blocks, message = (
        of_anthropic(streams["anthropic"], partial=partial),
        of_openai(streams["openai"]),
    )
    check(sent_back("anthropic", {"role": "assistant", "content": blocks}), events)
    check(sent_back("openai", message), events)
    check(sent_back("openai", as_openai(blocks)), events)
    check(sent_back("anthropic", {"role": "assistant", "content": as_blocks(message)}), events)


@settings(max_examples=60)
@given(answers())
def test_what_is_sent_whole_comes_back(events: list[m.Event]) -> None:
    """A body is a message as it stands."""
    request = m.ChatRequest("m", (), (m.Message("user", ()),), m.Sampling(1))
    if not isinstance(events[-1], m.Finished):
        events = [*events, m.Finished("end_turn", m.Usage(1))]
    body = json.loads(DIALECTS["anthropic"].encoder(request, "msg_1").collect(events))
    sent_back("anthropic", {"role": "assistant", "content": body["content"]})
    body = json.loads(DIALECTS["openai"].encoder(request, "msg_1").collect(events))
    answer = body["choices"][0]["message"]
    sent_back("openai", {**answer, "tool_calls": answer.get("tool_calls")})


KINDS = (
    "text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "document",
    "search_result", "server_tool_use", "web_search_tool_result", "mcp_tool_result", "compaction",
    "container_upload", "tool_reference", "image_url", "input_audio", "file", "refusal", "song",
)  # fmt: skip
FIELDS = (
    "text", "content", "source", "data", "media_type", "url", "id", "name", "input", "title",
    "tool_use_id", "image_url", "input_audio", "file", "file_data", "cache_control", "refusal",
)  # fmt: skip
inner = st.recursive(
    json_values | texts,
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS), each, max_size=3)
        | st.builds(lambda kind, rest: {**rest, "type": kind}, st.sampled_from(KINDS), st.just({}))
    ),
    max_leaves=8,
)
blocks_ = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
)


@settings(max_examples=250)
@given(st.sampled_from(BOTH), st.sampled_from(["user", "assistant"]), blocks_)
def test_any_block_is_read_or_refused_by_its_path(
    name: str, role: str, block: dict[str, Any]
) -> None:
    """Never another error; and what stands behind it, like a key or a prompt, can take it."""
    try:
        decoded(name, [{"role": role, "content": [block]}, ASK])
    except BadRequest as refused:
        assert refused.path.startswith("messages.1.content"), refused.message


calls_ = st.fixed_dictionaries(
    {},
    optional={
        "id": inner,
        "type": st.sampled_from(["function", "custom"]) | inner,
        "function": st.dictionaries(st.sampled_from(["name", "arguments"]), inner | arguments),
        "custom": st.dictionaries(st.sampled_from(["name", "input"]), inner),
    },
)


@settings(max_examples=150)
@given(st.lists(calls_, max_size=3), inner, inner)
def test_any_call_is_read_or_refused_by_its_path(
    made: list[dict[str, Any]], call_id: Any, content: Any
) -> None:
    """So is what came of it."""
    said = {"role": "assistant", "content": None, "tool_calls": made}
    result = {"role": "tool", "tool_call_id": call_id, "content": content}
    try:
        decoded("openai", [said, result])
    except BadRequest as refused:
        assert refused.path.startswith(("messages.1.tool_calls", "messages.2.content"))


written = st.one_of(
    arguments,
    st.tuples(arguments, st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]),
    st.tuples(arguments, texts).map("".join),
    arguments.map(json.dumps),
    texts,
)


@settings(max_examples=200)
@given(written)
def test_arguments_of_any_kind_are_an_object(raw: str) -> None:
    """What was whole stays what it was."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": raw}}
    request = decoded("openai", [{"role": "assistant", "tool_calls": [call]}])
    (use,) = request.messages[1].blocks
    assert isinstance(use, m.ToolUse)
    assert isinstance(use.input, dict)
    assert use.name == "f"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.booleans())))
def test_whole_arguments_stay_what_they_are(given_: dict[str, Any]) -> None:
    """Also where they are encoded once more, stand in a fence, or are followed by something."""
    once = json.dumps(given_)
    for raw in (given_, once, json.dumps(once), f"```json\n{once}\n```", f"{once} and so on"):
        assert CallInputs(Notes(), "arguments").read(raw) == given_
