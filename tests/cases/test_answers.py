"""Texts that a model writes, and what has to come of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.toolcalls.explain import explain

ANSWERS = Path(__file__).parent / "answers"


def call(name: str, **arguments: Any) -> tuple[str, Any]:
    """A call that is made."""
    return (name, arguments)


READ = call("Read", file_path="/a")
WEATHER = call("get_current_weather", city="Dallas", state="TX", unit="fahrenheit")
# Name, format, the file of tools, and the calls that come of it.
CASES: list[tuple[str, str, str, list[tuple[str, Any]]]] = [
    ("call_in_unclosed_think", "json_tags", "tools", [READ]),
    ("close_tag_only", "json_tags", "tools", [READ]),
    ("fenced_example", "json_tags", "tools", []),
    ("gemma_equals", "gemma4", "tools", [READ]),
    ("gemma_paren", "gemma4", "tools", [call("Read", file_path="/a", limit=5)]),
    ("lone_surrogate_in_call", "json_tags", "tools", [call("Bash", command="a \ufffd b")]),
    ("mention_of_think", "json_tags", "tools", []),
    ("missing_close_qwen", "qwen3_coder", "missing_close_tools", [WEATHER]),
    ("optional_model_qwen", "qwen3_coder", "optional_model_tools", [call("f", p={"a": 1})]),
    ("tools_tag", "json_tags", "tools", [READ]),
    ("workflow_glm", "glm", "workflow_tools", [call("Workflow", args={"files": ["a.py"]})]),
    ("workflow_qwen", "qwen3_coder", "workflow_tools", [call("Workflow", args=[1, 2])]),
]


def read(text: str, format_: str, tools: str) -> list[dict[str, Any]]:
    """The blocks that come of a text."""
    offered = (ANSWERS / f"{tools}.json").read_text(encoding="utf-8")
    report = explain(text, format_=format_, tools=offered, complete=True, notes=False)
    # As a program would print it.
    json.dumps(report).encode("utf-8")
    return list(report["blocks"])


def calls(blocks: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The calls among them."""
    return [(each["name"], each["input"]) for each in blocks if each["type"] == "tool_use"]


@pytest.mark.parametrize(("name", "format_", "tools", "expected"), CASES)
def test_an_answer_is_read(
    name: str, format_: str, tools: str, expected: list[tuple[str, Any]]
) -> None:
    """Calls are found where they stand, with values of the kinds that their schemas allow."""
    text = (ANSWERS / f"{name}.txt").read_text(encoding="utf-8")
    blocks = read(text, format_, tools)
    assert calls(blocks) == expected
    assert all(each["schema_valid"] for each in blocks if each["type"] == "tool_use")
    if not expected:
        said = "".join(each.get("text", "") for each in blocks)
        assert said.strip() == text.strip()


FENCE = "```"
MADE = '{"name": "Read", "arguments": {"file_path": "/a"}}'
XML = "<function=Read>\n<parameter=file_path>\n/a\n</parameter>\n</function>"
# Others of the same kinds: a text, its format, the calls that come of it.
VARIANTS: list[tuple[str, str, list[tuple[str, Any]]]] = [
    # A whole call in thinking that never ends.
    (f"<think>\nI read it.\n<tool_call>\n{XML}\n</tool_call>", "qwen3_coder", [READ]),
    (
        f"<think>Hm. <tool_call>{MADE}</tool_call>\n<tool_call>{MADE}</tool_call>",
        "json_tags",
        [READ] * 2,
    ),
    ('<think>So:<|tool_call>call:Read{file_path:<|"|>/a<|"|>}<tool_call|>', "gemma4", [READ]),
    # A call that is quoted, and talked about further on.
    (
        f"Like so:\n{FENCE}xml\n<tool_call>{MADE}</tool_call>\n{FENCE}\nNever do that.",
        "json_tags",
        [],
    ),
    (
        f"For example\n\n{FENCE}\n<tool_call>\n{XML}\n</tool_call>\n{FENCE}\n\nis a call.",
        "qwen3_coder",
        [],
    ),
    (f"I'd write\n~~~\n<tool_call>{MADE}</tool_call>\n~~~\nhere.", "json_tags", []),
    # Thinking that is only talked about.
    ("The tags `<think>` and `</think>` stand around thoughts.", "json_tags", []),
    ("First line.\nA model writes <think> before it answers.", "qwen3_coder", []),
    ('Write "<think>" yourself.', "glm", []),
    # Calls in the forms of others.
    (f"<tool_call>\n{XML}\n</tool_call>", "json_tags", [READ]),
    (f"<tool_call>\n{MADE}\n</tool_call>", "qwen3_coder", [READ]),
    (
        '<tool_call>\n<function=Read>\n{"file_path": "/a"}\n</function>\n</tool_call>',
        "qwen3_coder",
        [READ],
    ),
    ("<|tool_call>call:Read{'file_path': '/a'}<tool_call|>", "gemma4", [READ]),
    ('<invoke name="Read"><parameter name="file_path">/a</parameter></invoke>', "minimax", [READ]),
    # What JSON can't hold is not made up for.
    (
        '<tool_call>{"name":"Bash","arguments":{"command":"\\udc00"}}</tool_call>',
        "json_tags",
        [call("Bash", command="\ufffd")],
    ),
    (
        '<tool_call>{"name":"Bash","arguments":{"command":"\\ude00\\ud83d"}}</tool_call>',
        "json_tags",
        [call("Bash", command="\ufffd\ufffd")],
    ),
    (
        '<tool_call>{"name":"Bash","arguments":{"command":"\\ud83d\\ude00"}}</tool_call>',
        "json_tags",
        [call("Bash", command="\U0001f600")],
    ),
]


@pytest.mark.parametrize(("text", "format_", "expected"), VARIANTS)
def test_others_of_the_same_kinds(text: str, format_: str, expected: list[tuple[str, Any]]) -> None:
    """What is no call comes out as the text that it is."""
    blocks = read(text, format_, "tools")
    assert calls(blocks) == expected
    if not expected:
        said = "".join(each.get("text", "") for each in blocks)
        assert said.strip() == text.strip()


# A schema of one parameter, what stands in a tag for it, and the value that it is.
M = {"$defs": {"M": {"type": "object", "properties": {"a": {"type": "integer"}}}}}
VALUES: list[tuple[dict[str, Any], str, Any]] = [
    ({"anyOf": [{"$ref": "#/$defs/M"}, {"type": "null"}]}, "null", None),
    ({"allOf": [{"$ref": "#/$defs/M"}]}, '{"a": 2}', {"a": 2}),
    ({"oneOf": [{"const": 1}, {"const": 2}]}, "2", 2),
    ({"anyOf": [{"enum": [1, 2]}, {"type": "null"}]}, "1", 1),
    ({"properties": {"a": {"type": "boolean"}}}, '{"a": true}', {"a": True}),
    ({"items": {"type": "integer"}}, "[1, 2]", [1, 2]),
    ({"const": 3}, "3", 3),
    ({}, '{"x": [null]}', {"x": [None]}),
    ({"type": "integer"}, "5.0", 5),
    ({"type": ["number", "null"]}, "None", None),
    ({"type": "array", "enum": [[1], [2]]}, "[2]", [2]),
    ({"type": "string"}, "5.0", "5.0"),
    ({"type": "string"}, "null", "null"),
]


@pytest.mark.parametrize(("schema", "written", "expected"), VALUES)
@pytest.mark.parametrize("format_", ["qwen3_coder", "glm", "minimax"])
def test_a_value_is_of_a_kind_that_its_schema_allows(
    format_: str, schema: dict[str, Any], written: str, expected: Any
) -> None:
    """Whatever way the schema says it."""
    tool = {"type": "object", "properties": {"p": schema}, **M}
    offered = json.dumps([{"name": "f", "input_schema": tool}])
    text = {
        "qwen3_coder": f"<tool_call>\n<function=f>\n<parameter=p>\n{written}\n</parameter>\n"
        "</function>\n</tool_call>",
        "glm": f"<tool_call>f\n<arg_key>p</arg_key>\n<arg_value>{written}</arg_value>\n"
        "</tool_call>",
        "minimax": '<minimax:tool_call>\n<invoke name="f">\n<parameter name="p">'
        f"{written}</parameter>\n</invoke>\n</minimax:tool_call>",
    }[format_]
    report = explain(text, format_=format_, tools=offered, complete=True, notes=False)
    (block,) = report["blocks"]
    assert block["input"] == {"p": expected}
    assert type(block["input"]["p"]) is type(expected)
    assert block["schema_valid"]
