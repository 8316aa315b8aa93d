"""Grammars that an answer can be held to, so that a call can't be malformed: pure text.

Written in llguidance's dialect of Lark, which takes JSON Schema inline
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). Nothing is compiled here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlxdeck.server.messages import ToolSpec

# One way to write an object, and no blanks without end for a model to get lost in.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_NESTED = ("items", "additionalProperties", "not", "if", "then", "else")
_LISTED = ("anyOf", "oneOf", "prefixItems")
# RFC 3339, with an end to the fraction of a second: without one, a small model writes digits until
# it runs out of tokens.
_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_BOUNDED = {"time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}


class Writing(Protocol):
    """The part of a tool format that a grammar needs."""

    @property
    def start(self) -> str: ...

    def rule(self, name: str, arguments: str) -> str | None:
        """What follows `start` in a call of the tool, as a Lark expression.

        `arguments` is the name of the rule for its arguments. None if this format has no grammar.
        """


def call_grammar(writing: Writing, tools: Sequence[ToolSpec], *, marked: bool) -> str | None:
    """The grammar of one call of any of the tools; `marked` includes the marker that opens it.

    Without it, the grammar covers what a model goes on with once it has written the marker. None
    if the format, or a choice of no tools, has no grammar.
    """
    calls, rules = [], []
    for number, tool in enumerate(tools):
        rule = writing.rule(tool.name, f"args_{number}")
        if rule is None:
            return None
        calls.append(f"call_{number}")
        rules.append(f"call_{number}: {rule}")
        rules.append(f"args_{number}: {schema_rule(tool.input_schema)}")
    if not calls:
        return None
    opened = f"{quoted(writing.start)} " if marked else ""
    return "\n".join([f"start: {opened}({' | '.join(calls)})", *rules]) + "\n"


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of an answer that is one JSON value of a schema."""
    return f"start: {schema_rule(schema)}\n"


def schema_rule(schema: Mapping[str, Any]) -> str:
    """A rule for JSON of a schema."""
    return "%json " + json.dumps({**closed(dict(schema)), "x-guidance": _STYLE})


def closed(schema: Any) -> Any:
    """The schema with no room for properties that it doesn't name, where it doesn't speak of them.

    What conforms to the result conforms to the schema; a model is kept from making up parameters.
    """
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if (form := str(found.get("format"))) in _BOUNDED and "pattern" not in found:
        found["pattern"] = _BOUNDED[form]
        del found["format"]
    for key in _NAMED:
        if isinstance(named := found.get(key), dict):
            found[key] = {name: closed(value) for name, value in named.items()}
    for key in _NESTED:
        if key in found:
            found[key] = closed(found[key])
    for key in _LISTED:
        if isinstance(listed := found.get(key), list):
            found[key] = [closed(value) for value in listed]
    # Where schemas are combined, each would forbid what the others name.
    combined = any(key in found for key in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties"))
    if "properties" in found and "additionalProperties" not in found and not combined:
        found["additionalProperties"] = False
    return found


def quoted(text: str) -> str:
    """A text as a Lark string."""
    return json.dumps(text, ensure_ascii=False)
