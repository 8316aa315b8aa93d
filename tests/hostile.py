"""Inputs that cost far more than they look like, by kind: for tests, and for `make bench`.

Each is what a client could send, or what a careless tool server does send.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any


def nested(depth: int) -> dict[str, Any]:
    """Objects in objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def doubling(depth: int, keyword: str = "anyOf") -> dict[str, Any]:
    """References that each lead to two: as many ways as 2 to the power of the depth."""
    defs: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(depth)
    }
    defs[f"d{depth}"] = {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def doubling_objects(depth: int) -> dict[str, Any]:
    """The same through properties."""
    defs: dict[str, Any] = {
        f"d{n}": {
            "type": "object",
            "properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"},
            "required": ["a", "b"],
        }
        for n in range(depth)
    }
    defs[f"d{depth}"] = {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def with_(told: Any) -> dict[str, Any]:
    """An object with one property of that schema."""
    return {"type": "object", "properties": {"a": told}, "required": ["a"]}


PATTERNS = (
    "^(a+)+$",
    "^(.*a)*300$",
    "^(.*a){300}$",
    "(a{1,1000}){1,1000}",
    "^.*a.{400}$",
    "(x+x+)+y",
    "^(a|b|ab)*c$",
    "(?=(a+)+$)a",
    "^(a*)*\\1$",
    "(" * 500 + "a" + ")" * 500,
    "x" * 50_000,
    "[\\p{L}\\p{N}]{1,999}" * 20,
)
"""Regular expressions that take for ever, take much memory, or are none that is known."""

SCHEMAS: dict[str, dict[str, Any]] = {
    **{f"pattern {p[:24]}": with_({"type": "string", "pattern": p}) for p in PATTERNS},
    "pattern of names": {"type": "object", "patternProperties": {"^(a+)+$": {}, "(.*x)*y": {}}},
    "40 refs, anyOf": doubling(40),
    "40 refs, allOf": doubling(40, "allOf"),
    "40 refs, oneOf": doubling(40, "oneOf"),
    "40 refs, objects": doubling_objects(40),
    "12 refs, oneOf": doubling(12, "oneOf"),
    "allOf of 60 refs to itself": {"allOf": [{"$ref": "#/$defs/a"}] * 60, "$defs": {
        "a": {"allOf": [{"$ref": "#/$defs/b"}] * 60}, "b": {"anyOf": [{"type": "object"}] * 60}}},
    "anyOf of 60 in anyOf of 60": with_({"anyOf": [
        {"anyOf": [{"type": "object", "properties": {f"p{m}": {"const": n}}} for m in range(60)]}
        for n in range(60)]}),
    "nested 60": nested(60),
    "enum of 20,000": with_({"enum": [f"value {n}" for n in range(20_000)]}),
    "enum of long texts": with_({"enum": [f"{n}" * 5_000 for n in range(100)]}),
    "3,000 properties": {"type": "object", "properties": {
        f"p{n}": {"type": "string"} for n in range(3_000)}},
    "3,000 required": {"type": "object", "required": [f"p{n}" for n in range(3_000)],
        "properties": {f"p{n}": {"type": "integer"} for n in range(3_000)}},
    "unevaluated": {"unevaluatedProperties": False, **doubling(40, "allOf")},
    "lists in lists": with_({"type": "array", "maxItems": 250, "items": {
        "type": "array", "maxItems": 250, "items": {"type": "array", "maxItems": 250}}}),
    "long bounds": with_({"type": "string", "minLength": 100_000, "maxLength": 10**9}),
    "large multiples": with_({"type": "integer", "multipleOf": 999_983, "maximum": 10**18}),
    "$schema is a number": {"$schema": 5, **with_({"type": "string"})},
    "$schema is a list": {"$schema": [], **with_({"$schema": {}, "type": "string"})},
    "another draft": {"$schema": "http://json-schema.org/draft-04/schema#", **with_(
        {"$schema": "http://json-schema.org/draft-03/schema#", "pattern": "^(a+)+$"})},
}  # fmt: skip
"""Schemas of arguments or answers."""


def chat(content: Any, **fields: Any) -> bytes:
    """A request of the Messages API with one turn of the user's."""
    turn = {"role": "user", "content": content}
    return json.dumps({"model": "m", "max_tokens": 4, "messages": [turn], **fields}).encode()


def repeated(part: bytes, n: int) -> bytes:
    """A request with the same message many times."""
    listed = b",".join([part] * n)
    return b'{"model":"m","max_tokens":4,"messages":[' + listed + b"]}"


def with_tool(schema: dict[str, Any]) -> bytes:
    """A request that has to call a tool of that schema."""
    tools = [{"name": "t", "input_schema": schema}]
    return chat("Call it.", tools=tools, tool_choice={"type": "any"})


def with_answer(schema: dict[str, Any]) -> bytes:
    """A request whose answer has to conform."""
    return chat("Say it.", output_config={"format": {"type": "json_schema", "schema": schema}})


def with_picture(n_bytes: int) -> bytes:
    """A conversation with a picture some turns ago, as agents that take screenshots send it."""
    data = base64.b64encode(bytes(n_bytes)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    seen = {"role": "user", "content": [{"type": "image", "source": source}]}
    said = {"role": "assistant", "content": "I see."}
    turns = [seen, said, {"role": "user", "content": "Go on."}]
    return json.dumps({"model": "m", "max_tokens": 4, "messages": turns}).encode()


MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
TURN = b'{"role":"user","content":"a"}'
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "31 MB of words": (MESSAGES, lambda: chat("word and so on, " * 1_900_000)),
    "3 MB of words": (MESSAGES, lambda: chat("word and so on, " * 190_000)),
    "5 MB of one letter": (MESSAGES, lambda: chat("x" * 5_000_000)),
    "31 MB of blanks": (MESSAGES, lambda: chat(" " * 31_000_000)),
    "31 MB of signs": (MESSAGES, lambda: chat("=" * 31_000_000)),
    "30 MB of emoji, escaped": (MESSAGES, lambda: chat("\U0001f600" * 2_500_000)),
    "3 MB by the assistant": (MESSAGES, lambda: json.dumps({"model": "m", "max_tokens": 4,
        "messages": [{"role": "user", "content": "Go."},
                     {"role": "assistant", "content": "word and so on, " * 190_000},
                     {"role": "user", "content": "Go on."}]}).encode()),
    "31 MB counted": (COUNT, lambda: chat("word and so on, " * 1_900_000)),
    "500,000 messages": (MESSAGES, lambda: repeated(TURN, 500_000)),
    "80,000 messages": (MESSAGES, lambda: repeated(TURN, 80_000)),
    "17 MB of half pairs": (
        MESSAGES, lambda: repeated(b'{"role":"user","content":"\\ud800"}', 450_000)),
    "70,000 half pairs": (
        MESSAGES, lambda: repeated(b'{"role":"user","content":"\\ud800"}', 70_000)),
    "31 MB of lists": (MESSAGES, lambda: repeated(b"[[],[],[]]", 2_800_000)),
    "31 MB of numbers": (MESSAGES, lambda: repeated(b"1", 15_000_000)),
    "30 MB of NaN": (MESSAGES, lambda: repeated(b"NaN", 7_500_000)),
    "200,000 blocks": (MESSAGES, lambda: chat([{"type": "text", "text": "a"}] * 80_000)),
    "90,000 levels": (MESSAGES, lambda: b"[" * 90_000),
    "20 MB picture": (MESSAGES, lambda: with_picture(15_000_000)),
    **{f"tool, {name}": (MESSAGES, lambda schema=schema: with_tool(schema))  # type: ignore[misc]
       for name, schema in SCHEMAS.items()},
    **{f"answer, {name}": (MESSAGES, lambda schema=schema: with_answer(schema))  # type: ignore[misc]
       for name, schema in SCHEMAS.items()},
}  # fmt: skip
"""Where each is sent, and a maker of its body."""
