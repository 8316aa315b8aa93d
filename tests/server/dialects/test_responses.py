"""What is special about OpenAI's responses, and what its own SDK makes of our bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from mlxdeck.server import chat as m
from mlxdeck.server.dialects.base import RecallingDialect, StoredAnswer, StoringEncoder
from mlxdeck.server.dialects.openai_responses.argument_text import ArgumentText
from mlxdeck.server.dialects.openai_responses.history import hide_thought, open_thought
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.dialects.surrogates import whole_text
from mlxdeck.server.errors import (
    BadRequest,
    Cancelled,
    EngineFailed,
    UnknownPrevious,
    UnknownStored,
    UpstreamRefused,
)
from tests.server.dialects.test_dialects import json_values
from tests.server.dialects.test_sent_back import answers, check, inner, texts

RESPONSES = DIALECTS["openai_responses"]
assert isinstance(RESPONSES, RecallingDialect)
GOLDEN = Path(__file__).parent / "golden" / "openai_responses"
F = {"type": "function", "name": "f"}
PATCH = {"type": "custom", "name": "patch"}
AGENTS = {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "close"}]}
SEARCH = {"type": "web_search"}
ASK = {"role": "user", "content": "Hi"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def read(**fields: Any) -> m.ChatRequest:
    """A valid request with some fields replaced."""
    body = {"model": "m", "input": "Hi", **fields}
    return RESPONSES.decode(json.dumps(body).encode(), fields.pop("headers", {}))


def blocks(*items: Any, **fields: Any) -> list[m.Block]:
    """What a conversation consists of, after its first turn."""
    request = read(input=[ASK, *items], **fields)
    return [block for message in request.messages[1:] for block in message.blocks]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input: expected a list"),
    ({"input": []}, "input: at least one item"),
    ({"input": [{"role": "system", "content": "s"}]}, "input: at least one item"),
    ({"input": [4]}, "input.0: expected an object"),
    ({"input": [{}]}, "input.0.type: field required"),
    ({"input": [{"type": 4}]}, "input.0.type: expected a string"),
    ({"input": [{"role": "judge", "content": ""}]}, "input.0.role: expected user, assistant"),
    ({"input": [{"role": "user"}]}, "input.0.content: field required"),
    ({"input": [{"role": "user", "content": [{}]}]}, "input.0.content.0.type: field required"),
    ({"input": [{"type": "item_reference"}]}, "input.0.id: field required"),
    ({"instructions": ["s"]}, "instructions: expected a string"),
    ({"previous_response_id": 4}, "previous_response_id: expected a string"),
    ({"stream": "yes"}, "stream: expected true or false"),
    ({"store": "no"}, "store: expected true or false"),
    ({"background": True}, "background: is not supported"),
    ({"conversation": "conv_1"}, "conversation: is not supported"),
    ({"prompt": {"id": "p"}}, "prompt: is not supported"),
    ({"top_logprobs": 2}, "top_logprobs: is not supported"),
    ({"include": "all"}, "include: expected a list"),
    ({"include": [4]}, "include.0: expected a string"),
    ({"metadata": {"a": 1}}, "metadata.a: expected a string"),
    ({"truncation": 1}, "truncation: expected a string"),
    ({"temperature": 3}, "temperature: must be between 0 and 2"),
    ({"max_output_tokens": 0}, "max_output_tokens: must be at least 1"),
    ({"reasoning": "high"}, "reasoning: expected an object"),
    ({"reasoning": {"effort": 1}}, "reasoning.effort: expected a string"),
    ({"text": "json"}, "text: expected an object"),
    ({"text": {"format": {}}}, "text.format.type: field required"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type: expected text, json_object"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema: field required"),
    ({"tools": [{"name": "f"}]}, "tools.0.type: field required"),
    ({"tools": [{"type": "function"}]}, "tools.0.function: field required"),
    ({"tools": [{**F, "name": ""}]}, "tools.0.name: must not be empty"),
    ({"tools": [{**PATCH, "name": ""}]}, "tools.0.name: must not be empty"),
    ({"tools": [F, F]}, "tools: tool names must be unique"),
    ({"tools": [{**AGENTS, "tools": [{}]}]}, "tools.0.tools.0.type: field required"),
    ({"tools": [{**PATCH, "format": "lark"}]}, "tools.0.format: expected an object"),
    ({"tool_choice": "required"}, "tool_choice: needs tools"),
    ({"tool_choice": "sometimes"}, "tool_choice: expected one of auto, none, required"),
    ({"tools": [F], "tool_choice": {"type": "function"}}, "tool_choice.name: field required"),
    (
        {"tools": [F], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice.name: tool 'g' is not among the tools",
    ),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls: expected true or false"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_a_bad_request_names_the_field(fields: dict[str, Any], message: str) -> None:
    """By its path, in the message and in `param`."""
    with pytest.raises(BadRequest) as refused:
        read(**fields)
    assert message in refused.value.message
    error = json.loads(RESPONSES.encode_error(refused.value, "req_1"))["error"]
    assert (error["param"], error["type"]) == (refused.value.path, "invalid_request_error")


def test_errors_have_the_codes_that_clients_look_for() -> None:
    """Also an upstream's; in a stream they say whether it is any use to try again."""
    long = UpstreamRefused("prompt is too long: 9 tokens > 8 maximum", 400, "invalid_request_error")
    other = UpstreamRefused("no", 429, "rate_limit_error")
    other.dialect, other.fields = "openai", {"code": "rate_limit_exceeded", "param": "x"}
    unknown = UpstreamRefused("no", 500, "api_error")
    for error, code, in_stream in (
        (long, "context_length_exceeded", "context_length_exceeded"),
        (other, "rate_limit_exceeded", "rate_limit_exceeded"),
        (unknown, None, "server_error"),
        (Cancelled(), "request_cancelled", "invalid_prompt"),
    ):
        assert json.loads(RESPONSES.encode_error(error, ""))["error"]["code"] == code
        encoder = RESPONSES.encoder(read(), "msg_1")
        encoder.encode(m.Started(m.Usage(1)))
        (failed,) = (line for line in encoder.error(error).split(b"\n") if b'"error":{' in line)
        assert json.loads(failed[6:])["response"]["error"]["code"] == in_stream


def test_null_is_the_same_as_nothing() -> None:
    """Some clients send every field."""
    names = (
        *("instructions", "include", "max_output_tokens", "metadata", "parallel_tool_calls"),
        *("previous_response_id", "prompt", "reasoning", "store", "stream", "temperature", "text"),
        *("tool_choice", "tools", "top_p", "truncation", "user", "background", "conversation"),
        *("max_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "model"),
    )
    assert read(**dict.fromkeys(names)).messages == read().messages


CHOICES: list[tuple[Any, m.ToolChoice, list[str]]] = [
    ("auto", m.ToolChoice("auto"), ["f", "patch", "agents__close"]),
    ("none", m.ToolChoice("none"), ["f", "patch", "agents__close"]),
    ("required", m.ToolChoice("any"), ["f", "patch", "agents__close"]),
    (
        {"type": "function", "name": "f"},
        m.ToolChoice("tool", "f"),
        ["f", "patch", "agents__close"],
    ),
    (
        {"type": "custom", "name": "patch"},
        m.ToolChoice("tool", "patch"),
        ["f", "patch", "agents__close"],
    ),
    (
        {"type": "function", "name": "close", "namespace": "agents"},
        m.ToolChoice("tool", "agents__close"),
        ["f", "patch", "agents__close"],
    ),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{**PATCH}]},
        m.ToolChoice("any"),
        ["patch"],
    ),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [SEARCH, F]},
        m.ToolChoice("auto"),
        ["f"],
    ),
    ({"type": "web_search"}, m.ToolChoice("auto"), ["f", "patch", "agents__close"]),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "wanted", "names"), CHOICES)
def test_every_choice_is_understood(choice: Any, wanted: m.ToolChoice, names: list[str]) -> None:
    """Also of custom tools and of tools in a namespace; a tool of elsewhere leaves it open."""
    request = read(tools=[F, PATCH, AGENTS, SEARCH], tool_choice=choice)
    assert request.tool_choice == wanted
    assert [tool.name for tool in request.tools] == names
    assert "left_out tools.web_search 1" in request.history_notes


def test_a_custom_tool_is_a_function_with_a_text() -> None:
    """Its grammar is told where its text is described."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    (spec,) = read(tools=[{**PATCH, "description": "Edits.", "format": grammar}]).tools
    assert (spec.name, spec.description) == ("patch", "Edits.")
    assert spec.input_schema["required"] == ["input"]
    assert "lark grammar:\nstart: /x/" in spec.input_schema["properties"]["input"]["description"]


def test_tools_may_come_with_the_conversation() -> None:
    """What can't be read of them, or is there already, is left out."""
    found = {"type": "tool_search_output", "call_id": "c", "tools": [F, AGENTS]}
    more = {"type": "additional_tools", "role": "developer", "tools": [PATCH, {"type": 4}, 5]}
    request = read(input=[ASK, more, found], tools=[F])
    assert [tool.name for tool in request.tools] == ["f", "patch", "agents__close"]
    assert "left_out tools.malformed 2" in request.history_notes


ITEMS: list[tuple[Any, list[m.Block]]] = [
    ({"role": "assistant", "content": "a"}, [m.Text("a")]),
    (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "type": "message"},
        [m.Text("no")],
    ),
    (
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}], "summary": []},
        [m.Thinking("hm")],
    ),
    (
        {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]},
        [m.Thinking("a\n\nb")],
    ),
    (
        {"type": "reasoning", "summary": [], "encrypted_content": hide_thought("hé")},
        [m.Thinking("hé")],
    ),
    ({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, []),
    (
        {"type": "function_call", "call_id": "c", "name": "close", "namespace": "agents",
         "arguments": '{"a": 1}'},
        [m.ToolUse("c", "agents__close", {"a": 1})],
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "+ x"},
        [m.ToolUse("c", "patch", {"input": "+ x"})],
    ),
    (
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
        [m.ToolUse("c", "shell", {"commands": ["ls"]})],
    ),
    (
        {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file"}},
        [m.ToolUse("c", "apply_patch", {"type": "delete_file"})],
    ),
    (
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        [m.ToolResult("c", "x")],
    ),
    (
        {"type": "function_call_output", "call_id": "c",
         "output": [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]},
        [m.ToolResult("c", "x\ny")],
    ),
    (
        {"type": "function_call_output", "call_id": "c",
         "output": {"content": "x", "success": False}},
        [m.ToolResult("c", "x", is_error=True)],
    ),
    (
        {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}},
        [m.Text("\n[web_search_call: q]\n")],
    ),
    (
        {"type": "mcp_call", "id": "m", "name": "n", "arguments": "{}", "output": "o\n"},
        [m.Text("\n[mcp_call: n; {}]\no\n\n")],
    ),
    ({"type": "song", "text": "la"}, [m.Text("[song]\nla")]),
    ({"type": "item_reference", "id": "rs_0_0"}, []),
    ({"type": "compaction", "encrypted_content": "AAAA"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("item", "found"), ITEMS)
def test_items_of_all_kinds_are_read(item: dict[str, Any], found: list[m.Block]) -> None:
    """Those of other servers and unknown ones as texts; what says nothing is left out."""
    body = {"model": "m", "input": [ASK, item]}
    request = RESPONSES.decode(json.dumps(body).encode(), {})
    if request.refers_to:
        assert isinstance(RESPONSES, RecallingDialect)
        request = RESPONSES.recall(request, {})
    assert [block for each in request.messages[1:] for block in each.blocks] == found


def test_turns_are_those_of_the_model() -> None:
    """All that it said at once is one message, and so are the results of its calls."""
    items = [
        {"type": "reasoning", "summary": [{"text": "hm"}]},
        {"role": "assistant", "content": "I look."},
        *({"type": "function_call", "call_id": c, "name": "f", "arguments": "{}"} for c in "ab"),
        *({"type": "function_call_output", "call_id": c, "output": c} for c in "ba"),
        {"role": "assistant", "content": "Done."},
    ]
    request = read(input=[{"role": "developer", "content": "d"}, ASK, *items], instructions="i")
    assert request.system == ("i", "d")
    assert [(each.role, len(each.blocks)) for each in request.messages] == [
        ("user", 1), ("assistant", 4), ("user", 2), ("assistant", 1),
    ]  # fmt: skip


def test_a_picture_that_the_user_sends_now_is_named() -> None:
    """By its path; one of an earlier turn, or in a result, is only noted."""
    new = {"role": "user", "content": [IMAGE]}
    assert read(input=[ASK, new]).unsupported == (
        "input.1.content.0.image_url",
        "Could not process image: this model reads text only",
    )
    assert read(input=[new, ASK]).unsupported is None
    result = {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}
    assert read(input=[ASK, result]).unsupported is None
    attached = {
        "type": "input_file",
        "filename": "a.txt",
        "file_data": "data:text/plain;base64,aGk=",
    }
    (block,) = read(input=[{"role": "user", "content": [attached]}]).messages[0].blocks
    assert block == m.Text("a.txt\nhi")


def test_names_of_a_session_and_its_agents() -> None:
    """As Codex sends them, else the key of its cache; an agent of its own is another thread."""
    main = read(headers={"session-id": "s", "thread-id": "s"})
    assert (main.session_id, main.agent_id, main.parent_agent_id) == ("s", "", "")
    agent = read(headers={"session-id": "s", "thread-id": "a", "x-codex-parent-thread-id": "s"})
    assert (agent.session_id, agent.agent_id, agent.parent_agent_id) == ("s", "a", "")
    assert read(prompt_cache_key="k").session_id == "k"
    assert read().session_id == ""


def test_thinking_and_form_of_the_answer() -> None:
    """Effort, no effort, a schema and any object."""
    high, none = (read(reasoning={"effort": each}) for each in ("high", "none"))
    assert (high.thinking, high.effort, none.thinking, none.effort) == (True, "high", False, "")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    answer_schema = read(text={"format": form}).answer_schema
    assert answer_schema is not None and answer_schema["properties"] == schema["properties"]
    assert read(text={"format": {"type": "json_object"}}).answer_schema == {"type": "object"}
    assert read(text={"verbosity": "low"}).answer_schema is None


def stream_of(request: m.ChatRequest, told: Sequence[m.Event]) -> tuple[bytes, StoringEncoder]:
    """The whole stream, broken off if its events are."""
    encoder = RESPONSES.encoder(request, "msg_abc")
    assert isinstance(encoder, StoringEncoder)
    pieces = [encoder.encode(event) for event in told]
    if not isinstance(told[-1], m.Finished):
        pieces.append(encoder.error(EngineFailed("it broke off")))
    return b"".join(pieces), encoder


def events_of(stream: bytes) -> Iterator[ResponseStreamEvent]:
    """The events as the SDK's own types; each is named twice, and they are numbered."""
    for number, block in enumerate(stream.decode().strip().split("\n\n")):
        name, data = block.split("\n")
        event = EVENT.validate_json(data.removeprefix("data: "))
        assert (event.type, event.sequence_number) == (name.removeprefix("event: "), number)
        yield event


@settings(max_examples=80)
@given(answers(), st.booleans(), st.booleans(), st.booleans())
def test_the_sdk_assembles_the_stream_to_the_body(
    told: list[m.Event], is_custom: bool, summarized: bool, encrypted: bool
) -> None:
    """Each item by its deltas and its end, and all of them in the last event."""
    # The SDK tells calls apart by their ids.
    told = [
        replace(each, id=f"c{i}") if isinstance(each, m.ToolCallStart) else each
        for i, each in enumerate(told)
    ]
    request = read(
        tools=[{**F, "type": "custom"} if is_custom else F],
        reasoning={"summary": "auto"} if summarized else None,
        include=["reasoning.encrypted_content"] if encrypted else None,
    )
    stream, _ = stream_of(request, told)
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    grown: dict[int, str] = {}
    done: dict[int, Any] = {}
    for event in events_of(stream):
        state.handle_event(event)
        if event.type.endswith(".delta"):
            more: Any = event
            grown[more.output_index] = grown.get(more.output_index, "") + more.delta
        if event.type == "response.output_item.done":
            done[event.output_index] = json.loads(event.item.to_json(exclude_unset=True))
    assert event.type.removeprefix("response.") in ("completed", "incomplete", "failed")
    final = event.response  # type: ignore[union-attr]
    if not isinstance(told[-1], m.Finished):
        assert final.error is not None and "it broke off" in final.error.message
        return
    body = json.loads(RESPONSES.encoder(request, "msg_abc").collect(told))
    assert [done[i] for i in range(len(done))] == body["output"]
    assert json.loads(final.to_json(exclude_unset=True))["output"] == body["output"]
    assert [grown.get(i, "") for i in range(len(done))] == [text_of(i) for i in body["output"]]
    assert Response.model_validate(body).status == body["status"] == final.status


def text_of(item: dict[str, Any]) -> str:
    """All that an item says."""
    parts = item.get("content") or item.get("summary") or ()
    said = "".join(part["text"] for part in parts)
    return said or item.get("arguments") or item.get("input") or ""


@settings(max_examples=100)
@given(answers(), st.booleans())
def test_what_is_sent_comes_back(told: list[m.Event], is_custom: bool) -> None:
    """As items of the next request, and as an answer that it continues."""
    request = read(tools=[{**F, "type": "custom"} if is_custom else F])
    stream, encoder = stream_of(request, told)
    *_, last = events_of(stream)
    output = json.loads(last.response.to_json(exclude_unset=True))["output"]  # type: ignore[union-attr]
    answer = encoder.stored()
    assert answer is not None and json.loads(answer.output) == output
    results = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "x"}
        for item in output
        if "call_id" in item
    ]
    twice = [ASK, *output, *results, ASK, *output, *results, ASK]
    check(read(input=twice), told)
    assert isinstance(RESPONSES, RecallingDialect)
    following = read(input=[*results, ASK], previous_response_id=answer.id)
    continued = RESPONSES.recall(following, {answer.id: answer})
    assert continued.messages == read(input=[ASK, *output, *results, ASK]).messages


def stored(items: Sequence[Any], output: Sequence[Any], **more: Any) -> StoredAnswer:
    """An answer as it would be kept."""
    parts = (json.dumps(each).encode() for each in (items, output, {"id": "resp_a", "output": []}))
    return StoredAnswer(more.get("id", "resp_a"), more.get("previous"), *parts)


def test_a_request_continues_what_is_stored() -> None:
    """With its own instructions; an id that is not there is refused in the API's own words."""
    assert isinstance(RESPONSES, RecallingDialect)
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_a_0"}
    result = {"type": "function_call_output", "call_id": "c", "output": "x"}
    first = stored([{"role": "developer", "content": "d"}, ASK], [call])
    done = {"role": "assistant", "content": "Done.", "id": "msg_a_0"}
    second = stored([result], [done], previous=first)
    request = read(previous_response_id="resp_a", input="More?", instructions="i")
    assert (request.refers_to, request.messages) == (("resp_a",), ())
    whole = RESPONSES.recall(request, {"resp_a": second})
    assert (whole.system, whole.refers_to) == (("i", "d"), ())
    assert [each.role for each in whole.messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    with pytest.raises(UnknownPrevious) as refused:
        RESPONSES.recall(request, {})
    error = json.loads(RESPONSES.encode_error(refused.value, ""))["error"]
    assert error["code"] == "previous_response_not_found"
    assert error["param"] == "previous_response_id"
    nothing_new = read(previous_response_id="resp_a", input=None)
    assert len(RESPONSES.recall(nothing_new, {"resp_a": second}).messages) == 4


def test_a_request_quotes_stored_items() -> None:
    """In their place; one that is gone is an error, but for a thought."""
    assert isinstance(RESPONSES, RecallingDialect)
    said = {"type": "message", "id": "msg_a_0", "role": "assistant", "content": "a"}
    refer = {"type": "item_reference", "id": "msg_a_0"}
    thought = {"type": "item_reference", "id": "rs_b_0"}
    request = read(input=[ASK, thought, refer, ASK])
    assert request.refers_to == ("resp_b", "resp_a")
    whole = RESPONSES.recall(request, {"resp_a": stored([ASK], [said])})
    assert [each.role for each in whole.messages] == ["user", "assistant", "user"]
    assert "left_out item_reference 1" in whole.history_notes
    with pytest.raises(UnknownStored, match="msg_a_0") as refused:
        RESPONSES.recall(request, {})
    assert json.loads(RESPONSES.encode_error(refused.value, ""))["error"]["param"] == "input"


kinds = st.sampled_from([
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call",
    "custom_tool_call_output", "local_shell_call", "local_shell_call_output", "web_search_call",
    "shell_call", "shell_call_output", "mcp_call", "tool_search_output", "additional_tools",
    "compaction", "song",
])  # fmt: skip
fields_ = st.sampled_from([
    "id", "call_id", "role", "content", "name", "namespace", "arguments", "input", "output",
    "summary", "encrypted_content", "action", "status", "tools", "text",
])  # fmt: skip
items_ = st.builds(
    lambda kind, rest: {**rest, "type": kind}, kinds, st.dictionaries(fields_, inner, max_size=6)
)


@settings(max_examples=150)
@given(st.lists(items_, max_size=3))
def test_any_item_is_read_or_refused_by_its_path(items: list[dict[str, Any]]) -> None:
    """Never another error; and the answer can be stored and continued."""
    try:
        request = read(input=[ASK, *items])
    except BadRequest as refused:
        assert refused.path.startswith("input."), refused.message
        return
    _, encoder = stream_of(request, [m.Started(m.Usage(1)), m.Finished("end_turn", m.Usage(1))])
    answer = encoder.stored()
    assert answer is not None and isinstance(RESPONSES, RecallingDialect)
    following = read(previous_response_id=answer.id)
    assert len(RESPONSES.recall(following, {answer.id: answer}).messages) > len(request.messages)


@given(texts, st.lists(st.integers(0, 60)), st.booleans(), st.booleans())
def test_the_text_of_a_custom_tool_streams(
    said: str, cuts: list[int], spaced: bool, escaped: bool
) -> None:
    """However its JSON is written and cut; halves of surrogate pairs are replaced."""
    separators = (", ", " : ") if spaced else (",", ":")
    written = json.dumps({"input": said}, separators=separators, ensure_ascii=escaped)
    reader, got, start = ArgumentText(), "", 0
    for cut in sorted(cut % (len(written) + 1) for cut in cuts):
        got += reader.feed(written[start:cut])
        start = max(start, cut)
    got += reader.feed(written[start:]) + reader.flush()
    # Halves that stand side by side are a pair once they are escaped.
    whole = json.loads(json.dumps(said))
    assert whole_text(got) == whole_text(whole)


@given(json_values.map(json.dumps) | texts)
def test_other_arguments_of_a_custom_tool_are_its_text(written: str) -> None:
    """As they are, unless the text is among them."""
    reader = ArgumentText()
    got = reader.feed(written) + reader.flush()
    if not written.startswith("{"):
        assert got == written or "\\ud" in written.lower()


@given(texts)
def test_a_thought_is_hidden_and_found(thought: str) -> None:
    """Whatever it says; what another server hid stays hidden."""
    assert (
        open_thought(hide_thought(thought))
        == thought.encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
        .replace("\ud800", "�")
        or not thought.isprintable()
    )
    assert open_thought("gAAAAABk") == open_thought("mlxdeck:=") == ""


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_goldens_are_the_sdks_own(case: str) -> None:
    """Body and stream validate as the SDK's types, and say the same."""
    whole = Response.model_validate_json((GOLDEN / case / "response.json").read_text())
    *_, last = events_of((GOLDEN / case / "stream.sse").read_bytes())
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output == whole.output
    assert last.response.usage == whole.usage


def test_a_call_without_its_end_is_incomplete() -> None:
    """Whether another follows, as of a server whose answer was cut with two under way, or none."""
    asked = RESPONSES.decode(b'{"model": "m", "input": "q"}', {})
    encoder = RESPONSES.encoder(asked, "msg_1")
    two: list[m.Event] = [
        m.ToolCallStart("a", "f"),
        m.ToolCallDelta('{"x'),
        m.ToolCallStart("b", "f"),
    ]
    events: list[m.Event] = [
        m.Started(m.Usage(1, 0, 0)),
        *two,
        m.ToolCallDelta("{}"),
        m.ToolCallEnd("json"),
        m.ToolCallStart("c", "f"),
        m.Finished("tool_use", m.Usage(1, 0, 2)),
    ]
    output = json.loads(encoder.collect(events))["output"]
    assert [item["status"] for item in output] == ["incomplete", "completed", "incomplete"]
