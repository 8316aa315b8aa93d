"""Grammars that an answer can be held to, so that a call can't be malformed: pure text.

Written in llguidance's dialect of Lark, which takes JSON Schema inline
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). Nothing is compiled here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

MARKER = "%marker"
"""Before a quoted text that the model may have special tokens for; the engine knows."""
# One way to write an object, and no blanks without end for a model to get lost in.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_NESTED = ("items", "additionalProperties", "not", "if", "then", "else")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_KEPT = ("type", "enum", "const", "required", "$ref", "additionalProperties")
_DEFINED = ("$defs", "definitions")
# RFC 3339, with an end to the fraction of a second: without one, a small model writes digits until
# it runs out of tokens.
_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_BOUNDED = {"time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}


class Rules:
    """The rules of one grammar, named as they come."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, body: str, attributes: str = "") -> str:
        """Give a rule a name, and return that."""
        name = f"r{len(self._lines)}"
        self._lines.append(f"{name}{attributes}: {body}")
        return name

    @property
    def next_name(self) -> str:
        """What the next rule will be called, for one that refers to itself."""
        return f"r{len(self._lines)}"

    def json(self, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> str:
        """A rule for JSON of a schema; `root` is the one that its references are into."""
        defined = {key: root[key] for key in _DEFINED if key in root} if root else {}
        whole = closed({**defined, **schema})
        return self.add("%json " + json.dumps({**whole, "x-guidance": _STYLE}))

    def text_up_to(self, suffix: str, pattern: str = "") -> str:
        """A rule for text that ends with `suffix`, and otherwise doesn't contain it."""
        expression = pattern.replace("/", r"\/") or "(?s:.*)"
        return self.add(f"/{expression}/", f"[suffix={quoted(suffix)}]")

    def text(self, start: str) -> str:
        """The grammar that begins with an expression."""
        return "\n".join([f"start: {start}", *self._lines]) + "\n"


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
    if found.get("propertyNames") == {"type": "string"}:
        # All names are.
        del found["propertyNames"]
    found = _within(found, closed)
    # Where schemas are combined, each would forbid what the others name.
    combined = any(key in found for key in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties"))
    if "properties" in found and "additionalProperties" not in found and not combined:
        found["additionalProperties"] = False
    return found


def loosened(schema: Any) -> Any:
    """The schema with nothing but types, names and choices: what any grammar can express.

    More than what conforms to the schema conforms to the result.
    """
    if not isinstance(schema, dict):
        return schema
    kept = (*_KEPT, *_NAMED, *_NESTED[:2], *_LISTED[:2])
    return _within({key: value for key, value in schema.items() if key in kept}, loosened)


def _within(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema with a change made to every schema in it."""
    found = dict(schema)
    for key in _NAMED:
        if isinstance(named := found.get(key), dict):
            found[key] = {name: change(value) for name, value in named.items()}
    for key in _NESTED:
        if key in found:
            found[key] = change(found[key])
    for key in _LISTED:
        if isinstance(listed := found.get(key), list):
            found[key] = [change(value) for value in listed]
    return found


def quoted(text: str) -> str:
    """A text as a Lark string."""
    return json.dumps(text, ensure_ascii=False)


def literal(text: str) -> str:
    """A text of the format's own, special tokens and all; a leading line break is optional."""
    if not text:
        return '""'
    if text.startswith("\n"):
        return f"/\\n?/ {literal(text[1:])}"
    return f"{MARKER} {quoted(text)}"


def comma_list(required: list[str], optional: list[str], separator: str = ", ") -> str:
    """An expression for rules with separators between: all required ones, any optional ones."""
    comma = quoted(separator)
    rest = " ".join(f"({comma} {rule})?" for rule in optional)
    if required:
        return f"{f' {comma} '.join(required)} {rest}"
    ways = []
    for n, rule in enumerate(optional):
        ways.append(" ".join([rule, *(f"({comma} {each})?" for each in optional[n + 1 :])]))
    return f"({' | '.join(ways)})?" if ways else '""'


def parameters(schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The required and the optional properties of a tool that is called with one after the other.

    None if its schema is more than a list of properties.
    """
    if any(key in schema for key in ("anyOf", "oneOf", "allOf", "$ref", "minProperties")):
        return None
    named = schema.get("properties", {})
    needed = schema.get("required", [])
    if not isinstance(named, Mapping) or not isinstance(needed, list):
        return None
    if any(name not in named for name in needed):
        return None
    first = {name: each for name, each in named.items() if name in needed}
    return first, {name: each for name, each in named.items() if name not in needed}
