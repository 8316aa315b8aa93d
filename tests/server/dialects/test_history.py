"""What stands in a history and no chat template knows: how it is told, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxdeck.server.chat import Block, ChatRequest, Text, Thinking, ToolResult, ToolUse
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest

ANTHROPIC, OPENAI = DIALECTS["anthropic"], DIALECTS["openai"]
CHATS = ("anthropic", "openai", "openai_responses")
"""Dialects with a history."""
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
TEXT = {"type": "text", "text": "hi"}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
IMAGE = {"type": "image", "source": PNG}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
URL = {"type": "image_url", "image_url": {"url": PIXEL}}
SEEN = "[image (image/png, 8 bytes): left out, because this model reads text only]"
ASK = {"role": "user", "content": "Go on."}


def read(name: str, *turns: dict[str, Any], **fields: Any) -> ChatRequest:
    """A conversation as a dialect decodes it."""
    body = {"model": "m", "max_tokens": 5, "messages": list(turns), **fields}
    if name == "openai_responses":
        body["input"], body["max_output_tokens"] = body.pop("messages"), body.pop("max_tokens")
    return DIALECTS[name].decode(json.dumps(body).encode(), {})


def block_of(role: str, block: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The text that stands for a block of Anthropic's, and what is noted."""
    request = read("anthropic", {"role": role, "content": [block]}, ASK)
    blocks = request.messages[0].blocks
    said = "".join(each.text for each in blocks if isinstance(each, Text))
    return said.strip(), request.history_notes


TOLD: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "assistant",
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        '[server_tool_use: web_search; {"query":"x"}]',
        "told server_tool_use 1",
    ),
    (
        "assistant",
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": [
                {
                    "type": "web_search_result",
                    "url": "https://e.example",
                    "title": "t",
                    "encrypted_content": "abc",
                    "page_age": None,
                }
            ],
        },
        "[web_search_tool_result: https://e.example; t]",
        "told web_search_tool_result 1",
    ),
    (
        "assistant",
        {
            "type": "web_fetch_tool_result",
            "tool_use_id": "s",
            "content": {
                "type": "web_fetch_result",
                "url": "https://e.example",
                "content": {"type": "document", "source": {"type": "text", "data": "the page"}},
            },
        },
        "[web_fetch_tool_result: https://e.example]\nthe page",
        "told web_fetch_tool_result 1",
    ),
    (
        "assistant",
        {"type": "mcp_tool_result", "tool_use_id": "m", "content": [TEXT]},
        "[mcp_tool_result]\nhi",
        "told mcp_tool_result 1",
    ),
    (
        "assistant",
        {
            "type": "bash_code_execution_tool_result",
            "content": {
                "type": "bash_code_execution_result",
                "stdout": "4\n",
                "stderr": "",
                "return_code": 0,
                "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
            },
        },
        "[bash_code_execution_tool_result: return_code 0; file_1]\n4",
        "told bash_code_execution_tool_result 1",
    ),
    (
        "assistant",
        {"type": "compaction", "content": "They want a tree."},
        "[compaction]\nThey want a tree.",
        "told compaction 1",
    ),
    ("assistant", {"type": "redacted_thinking", "data": "x"}, "", "left_out redacted_thinking 1"),
    (
        "assistant",
        {"type": "thought_2031", "seal": "a" * 999},
        "[thought_2031: seal of 999 characters]",
        "told thought_2031 1",
    ),
    ("user", {"type": "redacted_thinking"}, "[redacted_thinking]", "told redacted_thinking 1"),
    ("assistant", {"type": "checkpoint", "id": "c"}, "", "left_out checkpoint 1"),
    ("user", {"type": "checkpoint", "id": "c"}, "[checkpoint]", "told checkpoint 1"),
    (
        "user",
        {"type": "container_upload", "file_id": "f"},
        "[container_upload: f]",
        "told container_upload 1",
    ),
    (
        "user",
        {
            "type": "search_result",
            "source": "s",
            "title": "t",
            "content": [{"type": "text", "text": "x"}],
            "citations": {"enabled": True},
        },
        "[search_result: s; t]\nx",
        "told search_result 1",
    ),
    (
        "user",
        {"type": "document", "title": "t", "source": {"type": "text", "data": "Read me."}},
        "t\nRead me.",
        "read document 1",
    ),
    (
        "user",
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "a"}, IMAGE]},
        },
        f"a\n{SEEN}",
        "read document 1",
    ),
    (
        "user",
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "text/plain", "data": "SGkg8J+Ygg=="},
        },
        "Hi 😂",
        "read document 1",
    ),
    ("assistant", IMAGE, SEEN, "replaced image 1"),
    (
        "assistant",
        {"type": "document", "title": "a.pdf", "source": {"type": "url", "url": "https://e"}},
        "[document (a.pdf): left out, because this model reads text only]",
        "replaced document 1",
    ),
    (
        "user",
        {"type": "tool_use", "name": "f", "input": {"a": 1}},
        '[tool_use: f; {"a":1}]',
        "told tool_use 1",
    ),
]


@pytest.mark.parametrize(("role", "block", "said", "note"), TOLD)
def test_a_block_that_no_template_knows_is_told(
    role: str, block: dict[str, Any], said: str, note: str
) -> None:
    """With what can be read of it, wherever it comes from; telemetry hears its kind alone."""
    assert block_of(role, block) == (said, (note,))


def test_notes_are_few_and_say_nothing() -> None:
    """Kinds are what a client writes: they are cut, and there are no more than a few."""
    blocks = [{"type": f"kind {i} \n secret" * 9, "text": "x"} for i in range(99)]
    notes = read("anthropic", {"role": "assistant", "content": blocks}, ASK).history_notes
    assert len(notes) <= 25 and max(map(len, notes)) < 70
    assert not any("\n" in note for note in notes)
    assert notes[-1] == "told other 75"


def plain(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """As a model of text takes them: without the media that their texts stand for."""
    return tuple(
        ToolResult(block.tool_use_id, block.text, block.is_error)
        if isinstance(block, ToolResult)
        else Text(block.text)
        if isinstance(block, Text)
        else block
        for block in blocks
    )


def test_the_same_block_is_told_alike_in_any_place() -> None:
    """Else the prompt would change behind it, and the states of all that follows with it."""
    result = {"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}
    call = {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {}}]}
    short = read("anthropic", ASK, call, result).messages
    longer = read("anthropic", ASK, call, result, call, result, ASK).messages
    assert longer[: len(short)] == short
    assert plain(short[-1].blocks) == (ToolResult(short[1].blocks[0].id, SEEN),)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "block", "path"),
    [
        ("anthropic", IMAGE, "messages.2.content.1.image.source"),
        ("anthropic", {"type": "document", "source": PNG}, "messages.2.content.1.document.source"),
        ("openai", URL, "messages.2.content.1.image_url"),
        ("openai", SOUND, "messages.2.content.1.input_audio"),
    ],
)
def test_a_picture_is_refused_where_the_user_has_just_sent_it(
    name: str, block: dict[str, Any], path: str
) -> None:
    """In the words on which Claude Code takes it out; once it is history, it is passed over."""
    said = {"role": "assistant", "content": "Yes?"}
    turn = {"role": "user", "content": [{"type": "text", "text": "Look:"}, block]}
    refused_at, reason = read(name, ASK, said, turn).unsupported or ("", "")
    assert refused_at == path
    assert "Could not process" in reason
    later = read(name, ASK, said, turn, said, ASK)
    assert "left out, because" in str(later.messages[2])
    assert later.unsupported is None
    assert read(name, ASK, said, turn, ASK).messages[:3] == later.messages[:3]


BESIDE: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "anthropic": (
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f"}]}],
        [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]},
            {"role": "user", "content": [{"type": "text", "text": "It:"}, IMAGE]},
        ],
    ),
    "openai": (
        [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}],
        [
            {"role": "tool", "tool_call_id": "c", "content": "It:"},
            {"role": "user", "content": [{"type": "text", "text": "It:"}, URL]},
        ],
    ),
    "openai_responses": (
        [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
        [
            {"type": "function_call_output", "call_id": "c", "output": "It:"},
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": PIXEL}],
            },
        ],
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_picture_beside_a_result_is_a_part_of_it(name: str) -> None:
    """Nobody could take it back; a new one behind the next answer is refused again."""
    called, results = BESIDE[name]
    turn = read(name, ASK, *called, *results)
    assert turn.unsupported is None
    assert "left out, because" in str(turn.messages[-1])
    said = {"role": "assistant", "content": "Yes?"}
    assert read(name, ASK, *called, *results, said, results[-1]).unsupported is not None
    assert read(name, ASK, *called, *results, said, ASK).unsupported is None
    if name == "anthropic":
        both = [block for each in results for block in each["content"]]
        assert read(name, ASK, *called, {"role": "user", "content": both}).unsupported is None


def test_a_count_refuses_no_picture() -> None:
    """Nobody is answered by it."""
    body = {"model": "m", "messages": [{"role": "user", "content": [IMAGE]}]}
    counted = ANTHROPIC.decode_count(json.dumps(body).encode(), {})
    assert plain(counted.messages[0].blocks) == (Text(SEEN),)


RESULTS: list[tuple[Any, str]] = [
    (None, ""),
    ("x", "x"),
    ([{"type": "text", "text": "a"}, IMAGE, "b"], f"a\n{SEEN}\nb"),
    ([URL], SEEN),
    ([{"type": "tool_reference", "tool_name": "mcp__x"}], "[tool_reference: mcp__x]"),
    ([{"type": "output_text", "text": "a"}], "a"),
    ([{"text": "a"}, {"a": 1}], 'a\n{"a":1}'),
    ({"a": [1, None]}, '{"a":[1,null]}'),
    (5, "5"),
]


@pytest.mark.parametrize(("content", "said"), RESULTS)
@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_what_a_tool_returned_is_never_refused(name: str, content: Any, said: str) -> None:
    """Also in the last turn: it is no client's to take back."""
    turn: dict[str, Any] = {"role": "tool", "tool_call_id": "c", "content": content}
    if name == "anthropic":
        result = {"type": "tool_result", "tool_use_id": "c", "content": content}
        turn = {"role": "user", "content": [result]}
    assert plain(read(name, ASK, turn).messages[1].blocks) == (ToolResult("c", said),)


ARGUMENTS: list[tuple[Any, dict[str, Any]]] = [
    ('{"a": 1}', {"a": 1}),
    ({"a": 1}, {"a": 1}),
    (None, {}),
    ("", {}),
    ("null", {}),
    ("{", {}),
    ('{"path": "x', {"path": "x"}),
    ('{"path": "x", "li', {"path": "x"}),
    ('{"path": "x", "lines": [1, {"a": tr', {"path": "x", "lines": [1, {}]}),
    ('{"path": "a\\', {"path": "a"}),
    ('{"a": 1} and so on', {"a": 1}),
    ('{"a": 1}{"a": 2}', {"a": 1}),
    ('"{\\"a\\": 1}"', {"a": 1}),
    ('[{"a": 1}]', {"a": 1}),
    ('{"a": "x\ny\tz\x0b"}', {"a": "x\ny\tz\x0b"}),
    ('{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": "NaN", "b": "-Infinity", "c": "Infinity"}),
    ('{"a\\ud83d": "\\ud83d"}', {"a�": "�"}),
    ("{'a': True, 'b': None,}", {"a": True, "b": None}),
    ({"__unparsedToolInput": {"raw": '{"path": "x', "len": 11}}, {"path": "x"}),
    ({"__unparsedToolInput": {"raw": "ls", "len": 2}}, {"input": "ls"}),
    ("ls -la", {"input": "ls -la"}),
    ('"ls"', {"input": '"ls"'}),
    ("[1, 2]", {"input": "[1, 2]"}),
    ([1, 2], {"input": [1, 2]}),
    (5, {"input": 5}),
    ("[" * 9999, {"input": "[" * 9999}),
]


@pytest.mark.parametrize(("raw", "made"), ARGUMENTS)
def test_arguments_are_repaired_or_kept(raw: Any, made: dict[str, Any]) -> None:
    """In both dialects alike; a call stays one, for its result follows."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": raw}}
    theirs = read("openai", ASK, {"role": "assistant", "content": None, "tool_calls": [call]})
    assert theirs.messages[1].blocks == (ToolUse("c", "f", made),)
    use = {"type": "tool_use", "id": "c", "name": "f", "input": raw}
    ours = read("anthropic", ASK, {"role": "assistant", "content": [use]})
    assert ours.messages == theirs.messages


def test_mending_has_a_bound() -> None:
    """It is slow: after so much of it in one request, what is broken is kept as it is."""
    long = '{"a": "' + "x" * 300_000
    calls = [openai_calls((str(i), "f")) for i in range(3)]
    for turn in calls:
        turn["tool_calls"][0]["function"]["arguments"] = long
    request = read("openai", ASK, *calls, ASK)
    uses = [message.blocks[0] for message in request.messages if message.role == "assistant"]
    assert [isinstance(use, ToolUse) and next(iter(use.input)) for use in uses] == [
        "a",
        "input",
        "input",
    ]
    assert request.history_notes == ("repaired arguments 1", "kept_raw arguments 2")


def pairs(request: ChatRequest) -> list[tuple[str, str]]:
    """Each result and the name of the call that it belongs to."""
    blocks = [block for message in request.messages for block in message.blocks]
    names = {block.id: block.name for block in blocks if isinstance(block, ToolUse)}
    assert len(names) == sum(isinstance(block, ToolUse) for block in blocks)
    results = (block for block in blocks if isinstance(block, ToolResult))
    return [(result.text, names.get(result.tool_use_id, "-")) for result in results]


def openai_calls(*calls: tuple[Any, str]) -> dict[str, Any]:
    """A turn with some calls."""
    made = [{"id": i, "function": {"name": name, "arguments": "{}"}} for i, name in calls]
    return {"role": "assistant", "tool_calls": made}


def result(call_id: Any, text: str) -> dict[str, Any]:
    """What one returned."""
    return {"role": "tool", "tool_call_id": call_id, "content": text}


PAIRS: list[tuple[list[dict[str, Any]], list[tuple[str, str]]]] = [
    # In order where nobody named them, and where only one side did.
    (
        [openai_calls((None, "a"), ("", "b")), result(None, "1"), result("", "2")],
        [("1", "a"), ("2", "b")],
    ),
    ([openai_calls((None, "a")), result("x", "1")], [("1", "a")]),
    ([openai_calls(("x", "a")), result(None, "1")], [("1", "a")]),
    # One id for all of them, turn after turn.
    (
        [openai_calls(("0", "a"), ("0", "b")), result("0", "1"), result("0", "2")]
        + [openai_calls(("0", "c")), result("0", "3")],
        [("1", "a"), ("2", "b"), ("3", "c")],
    ),
    # What was never answered is not answered later.
    ([openai_calls((None, "a")), ASK, openai_calls((None, "b")), result(None, "1")], [("1", "b")]),
    # Nothing to belong to.
    ([result("x", "1")], [("1", "-")]),
    # By name, as Ollama has it.
    (
        [openai_calls((None, "a"), (None, "b"))]
        + [{"role": "tool", "tool_name": name, "content": name} for name in "ba"],
        [("b", "b"), ("a", "a")],
    ),
    ([openai_calls((7, "a"), (8, "b")), result(8, "1"), result(7, "2")], [("1", "b"), ("2", "a")]),
]


@pytest.mark.parametrize(("turns", "expected"), PAIRS)
def test_results_find_their_calls(
    turns: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    """By their ids, else in order; every call ends up with an id of its own."""
    assert pairs(read("openai", ASK, *turns, ASK)) == expected


def test_calls_are_read_in_every_shape() -> None:
    """Custom tools, the API before tools, the API after it."""
    custom = {"id": "1", "type": "custom", "custom": {"name": "c", "input": "SELECT 1"}}
    newer = {"call_id": "2", "type": "function", "name": "n", "arguments": "{}"}
    older = {"role": "assistant", "function_call": {"name": "o", "arguments": '{"a": 1}'}}
    request = read(
        "openai",
        {"role": "assistant", "content": None, "tool_calls": [custom, newer]},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        older,
        {"role": "function", "name": "o", "content": "three"},
    )
    assert pairs(request) == [("two", "n"), ("one", "c"), ("three", "o")]
    assert request.messages[0].blocks[0] == ToolUse("1", "c", {"input": "SELECT 1"})
    elsewhere = {"id": "w", "type": "web_search_call", "action": {"query": "x"}}
    (block,) = (
        read("openai", {"role": "assistant", "tool_calls": [elsewhere]}, ASK).messages[0].blocks
    )
    assert block == Text("\n[web_search_call: x]\n")


def test_parts_of_both_of_openais_apis_are_read() -> None:
    """And what other servers call thinking."""
    parts = [
        {"type": "output_text", "text": "a"},
        {"type": "refusal", "refusal": "b"},
        {"type": "text", "text": None},
    ]
    said = {"role": "assistant", "content": parts, "reasoning": "hm", "tool_calls": None}
    asked = {"role": "user", "content": [{"type": "input_text", "text": "q"}, "r"]}
    request = read("openai", asked, said, ASK)
    assert request.messages[0].blocks == (Text("q"), Text("r"))
    assert request.messages[1].blocks == (Thinking("hm"), Text("a"), Text("b"))


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (rb'"a \ud83d b"', "a � b"),
        (rb'"\udc4d\ud83d\ude00"', "�😀"),
        (b'"a \xff b"', "a � b"),
        (rb'"\\ud83d"', "\\ud83d"),
    ],
)
def test_what_is_no_unicode_is_replaced(name: str, sent: bytes, said: str) -> None:
    """Half a pair, or a byte that is none; behind a mark that no JSON should begin with, too."""
    said_in = b"input" if name == "openai_responses" else b"messages"
    turns = b'"%b": [{"role": "user", "content": %b}]' % (said_in, sent)
    body = b'{"model": "m", "max_tokens": 5, %b}' % turns
    for raw in (body, b"\xef\xbb\xbf" + body):
        assert DIALECTS[name].decode(raw, {}).messages[0].blocks == (Text(said),)


def nested_tool(name: str, n_levels: int) -> bytes:
    """A request with a tool whose schema is nested."""
    deep = '{"a":' * n_levels + "1" + "}" * n_levels
    tool = f'{{"name": "f", "input_schema": {deep}}}'
    if name == "openai":
        tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}'
    if name == "openai_responses":
        tool = f'{{"type": "function", "name": "f", "parameters": {deep}}}'
    said_in = "input" if name == "openai_responses" else "messages"
    turn = f'"{said_in}": [{{"role": "user", "content": "x"}}]'
    return f'{{"model": "m", "max_tokens": 5, {turn}, "tools": [{tool}]}}'.encode()


@pytest.mark.parametrize("name", CHATS)
def test_deep_nesting_is_the_clients_fault(name: str) -> None:
    """Where it is deeper than JSON is read."""
    with pytest.raises(BadRequest, match="nested"):
        DIALECTS[name].decode(nested_tool(name, 90_000), {})


@pytest.mark.parametrize("n_levels", [100, 250, 700])
@pytest.mark.parametrize("name", CHATS)
def test_a_tool_with_a_deep_schema_is_taken(name: str, n_levels: int) -> None:
    """Whoever sends it has seldom written it; what is too deep is left out, and noted."""
    read = DIALECTS[name].decode(nested_tool(name, n_levels), {})
    assert read.tools[0].name == "f"
    assert "left_out tools.schema_parts 1" in read.history_notes


F = {"type": "function", "function": {"name": "f"}}
G = {"type": "function", "name": "g", "parameters": {"type": "object"}}
SQL = {"type": "custom", "custom": {"name": "sql"}}
CHOICES: list[tuple[Any, list[str], str, str]] = [
    ("auto", ["f", "g"], "auto", ""),
    ("required", ["f", "g"], "any", ""),
    ({"type": "function", "name": "g"}, ["f", "g"], "tool", "g"),
    ({"type": "function", "function": {"name": "f"}}, ["f", "g"], "tool", "f"),
    ({"type": "custom", "custom": {"name": "sql"}}, ["f", "g"], "auto", ""),
    ({"type": "web_search"}, ["f", "g"], "auto", ""),
    (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F]}},
        ["f"],
        "any",
        "",
    ),
    ({"type": "allowed_tools", "mode": "auto", "tools": [G, SQL]}, ["g"], "auto", ""),
]


@pytest.mark.parametrize(("choice", "names", "mode", "name"), CHOICES)
def test_tools_that_nobody_here_can_run_are_left_out(
    choice: Any, names: list[str], mode: str, name: str
) -> None:
    """The others are served, and a choice among them is one in either of OpenAI's shapes."""
    request = read("openai", ASK, tools=[F, SQL, {"type": "web_search"}, G], tool_choice=choice)
    assert [tool.name for tool in request.tools] == names
    assert (request.tool_choice.mode, request.tool_choice.name) == (mode, name)
    assert request.history_notes == ("left_out tools.custom 1", "left_out tools.web_search 1")


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "h"},
        {"type": "custom", "custom": {"name": "h"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{**G, "name": "h"}]}},
    ],
)
def test_a_choice_of_a_tool_that_is_not_there_is_refused(choice: dict[str, Any]) -> None:
    """Whatever shape it has."""
    with pytest.raises(BadRequest, match="tool 'h' is not among the tools"):
        read("openai", ASK, tools=[F, SQL, G], tool_choice=choice)


def test_toolsets_have_no_name() -> None:
    """What stands on a server elsewhere is left out, also where it is all there is."""
    toolset = {"type": "mcp_toolset", "mcp_server_name": "s"}
    own = {"name": "f", "input_schema": {}}
    request = read("anthropic", ASK, tools=[toolset, own])
    assert [tool.name for tool in request.tools] == ["f"]
    assert request.history_notes == ("left_out tools.mcp_toolset 1",)
    assert read("anthropic", ASK, tools=[toolset]).tools == ()


@pytest.mark.parametrize("name", CHATS)
def test_whole_numbers_may_have_a_point(name: str) -> None:
    """Some languages know no other numbers; no limit is said as -1."""
    sampling = read(name, ASK, max_tokens=4.0, top_k=5.0).sampling
    assert (sampling.max_tokens, sampling.top_k) == (4, 5)
    assert isinstance(sampling.max_tokens, int)
    assert read(name, ASK, max_tokens=-1).sampling.max_tokens > 1_000_000
    with pytest.raises(BadRequest, match="temperature: expected a finite number, got NaN"):
        read(name, ASK, temperature=float("nan"))
