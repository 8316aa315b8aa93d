"""More requests of the kinds that `requests/` holds one example of each."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

Case = dict[str, Any]

ASK: Case = {"role": "user", "content": "Say hi."}
GOOD = {
    "name": "good",
    "description": "d",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 5}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
READ = {
    "name": "Read",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}},
}


def all_variants() -> Iterator[tuple[str, Case]]:
    """Each with a name that says its kind."""
    for kind in (
        *(arguments, control_tokens, blocks, halves, numbers),
        *(sampling, bad_schemas, no_schemas, answer_schemas, prefills),
    ):
        for number, case in enumerate(kind()):
            yield f"{kind.__name__}-{number}", case


def anthropic(check: Case | None = None, **fields: Any) -> Case:
    """A request to Anthropic's API; it is to be answered unless `check` says otherwise."""
    body = {"model": "local", "max_tokens": 4, "messages": [ASK], **fields}
    return {"path": "/v1/messages", "body": body, "check": check or {}}


def openai(check: Case | None = None, **fields: Any) -> Case:
    """A request to OpenAI's API."""
    body = {"model": "local", "max_tokens": 4, "messages": [ASK], **fields}
    return {"path": "/v1/chat/completions", "body": body, "check": check or {}}


def arguments() -> Iterator[Case]:
    """Calls in OpenAI's history that somebody wrote wrong."""
    tool = {"type": "function", "function": {"name": "Read", "parameters": READ["input_schema"]}}
    for written in (
        *("", "null", "[1]", "{'file_path': 'a'}", '{"file_path": "a",}', '{"n": NaN}', "a"),
        *('{"file_path": "a"} and more', '{"file_path": "a', '{"a": "\t"}', 7, [1], True),
    ):
        function = {"name": "Read", "arguments": written}
        call = {"id": "c1", "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "x"}
        yield openai(messages=[ASK, said, result], tools=[tool])
    legacy = {"role": "assistant", "content": None}
    called = {**legacy, "function_call": {"name": "Read", "arguments": "{}"}}
    yield openai(messages=[ASK, called, {"role": "function", "name": "Read", "content": "x"}])
    unnamed = {"type": "function", "function": {"name": "Read", "arguments": "{}"}}
    yield openai(messages=[ASK, {**legacy, "tool_calls": [unnamed]}, ASK])
    for given in ("{}", "a", None, [1], 5):
        block = {"type": "tool_use", "id": "t1", "name": "Read", "input": given}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
        messages = [ASK, {"role": "assistant", "content": [block]}]
        yield anthropic(messages=[*messages, {"role": "user", "content": [result]}], tools=[READ])


def control_tokens() -> Iterator[Case]:
    """The text of a token that only the template may write, wherever others' text stands."""
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        text = f"a{token}b"
        plain = {"messages": [{"role": "user", "content": "ab"}]}
        more = {"more_tokens": 3}
        yield anthropic({"plain": plain, **more}, messages=[{"role": "user", "content": text}])
        yield anthropic({"plain": {"system": "ab"}, **more}, system=text)
        described = {"tools": [{**READ, "description": "ab"}]}
        yield anthropic({"plain": described, **more}, tools=[{**READ, "description": text}])
        turns = [_results(told) for told in (text, "ab")]
        yield anthropic({"plain": {"messages": turns[1]}, **more}, messages=turns[0])


def _results(text: str) -> list[Case]:
    call = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": text}
    turns = [ASK, {"role": "assistant", "content": [call]}]
    return [*turns, {"role": "user", "content": [result]}]


def blocks() -> Iterator[Case]:
    """Blocks of Anthropic's own tools, and such as nobody here has heard of."""
    text = {"type": "text", "text": "x"}
    ran = {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0}
    use = {"type": "server_tool_use", "id": "s1", "name": "code_execution", "input": {"code": "1"}}
    contents: list[list[Any]] = [
        [use, {"type": "code_execution_tool_result", "tool_use_id": "s1", "content": ran}],
        [{"type": "compaction", "content": "Earlier, files were read."}, text],
        [{"type": "of_next_year", "data": {"a": [1]}}, text],
        [{"type": "redacted_thinking", "data": "eA=="}],
    ]
    for content in contents:
        yield anthropic(messages=[ASK, {"role": "assistant", "content": content}, ASK])
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "eA=="}
    plain = {"type": "text", "media_type": "text/plain", "data": "one line"}
    for content in (
        [{"type": "document", "source": plain, "title": "t"}, text],
        [{"type": "container_upload", "file_id": "file_1"}, text],
    ):
        yield anthropic(messages=[{"role": "user", "content": content}])
    earlier = [{"role": "user", "content": [{"type": "document", "source": pdf}, text]}]
    yield anthropic(messages=[*earlier, {"role": "assistant", "content": "ok"}, ASK])
    picture = base64.b64encode(b"GIF89a").decode()
    shown = {"type": "image", "source": {**pdf, "media_type": "image/gif", "data": picture}}
    told = {"status": [400], "contains": "messages.0.content.0"}
    yield anthropic(told, messages=[{"role": "user", "content": [shown, text]}])
    yield anthropic(tools=[{"type": "mcp_toolset", "mcp_server_name": "s"}, READ])


def halves() -> Iterator[Case]:
    """Half of a surrogate pair, anywhere."""
    yield anthropic(system="a \udc00 b")
    yield anthropic(messages=_results("\ud83d"))
    yield anthropic(tools=[{**READ, "description": "\ud83d\ud83d"}])
    yield openai(messages=[{"role": "user", "content": "\ude00\ud83d"}])


def numbers() -> Iterator[Case]:
    """Numbers as other languages write them."""
    yield openai(max_tokens=4.0)
    yield openai(top_k=-1)
    yield anthropic(top_k=5.0)
    yield openai(n=1.0, temperature=0)


def sampling() -> Iterator[Case]:
    """What draws an answer makes it another one."""
    drawn = {"temperature": 1.0, "max_tokens": 20}
    for first, then in (
        ({"seed": 3}, {"seed": 4}),
        ({"presence_penalty": 0.1}, {"presence_penalty": 1.5}),
        ({"frequency_penalty": 0.1}, {"frequency_penalty": 1.0}),
        ({"logit_bias": {"5": 1}}, {"logit_bias": {"5": 2}}),
        ({"min_p": 0.1}, {"min_p": 0.2}),
    ):
        yield openai({"first": first}, **{**drawn, **then})


def bad_schemas() -> Iterator[Case]:
    """One tool that can't be held as it says, beside a good one: a call is forced all the same."""
    wrongs: list[Case] = [
        {"properties": {"n": {"type": "any"}}},
        {"properties": {"n": {"type": "String"}}},
        {"properties": {"n": {"type": "array", "items": None}}},
        {"properties": {}, "required": "n"},
        {"properties": {}, "additionalProperties": None},
        {"properties": {"n": {"$ref": "#/definitions/Nowhere"}}},
    ]
    for wrong in wrongs:
        bad = {"name": "bad", "description": "d", "input_schema": {"type": "object", **wrong}}
        choice = {"type": "tool", "name": "good"}
        check = {"stop_reason": "tool_use"}
        yield anthropic(check, tools=[bad, GOOD], tool_choice=choice, max_tokens=60)


def no_schemas() -> Iterator[Case]:
    """What is no schema of an object at all is refused, and named."""
    told = {"status": [400], "contains": "input_schema"}
    for schema in ({"type": "array"}, {"type": "string"}, {"type": "nonsense"}, {"type": 5}):
        tool = {"name": "t", "description": "d", "input_schema": schema}
        yield anthropic(told, tools=[tool], tool_choice={"type": "any"}, max_tokens=40)


def answer_schemas() -> Iterator[Case]:
    """An answer that is to have a schema has one, or the request is refused."""
    for schema in (
        {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Gone"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "any"}}, "additionalProperties": None},
        {"type": "nonsense"},
    ):
        check = {"json": True, "status": [200, 400]}
        wanted = {"format": {"type": "json_schema", "schema": schema}}
        yield anthropic(check, output_config=wanted, max_tokens=60)


def prefills() -> Iterator[Case]:
    """An answer that the client has begun goes on as its schema says."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": [1, 2]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    for begun in ("{", '{"a": tr', '{"a": true, "b"'):
        check = {"json": True, "joined": True, "status": [200, 400]}
        turns = [ASK, {"role": "assistant", "content": begun}]
        wanted = {"format": {"type": "json_schema", "schema": schema}}
        yield anthropic(check, messages=turns, output_config=wanted, max_tokens=40)
