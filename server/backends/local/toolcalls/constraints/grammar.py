"""Grammars that constrain an answer, so that a call can't be malformed: pure text.

Written in llguidance's dialect of Lark, which takes JSON Schema inline
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). Nothing is compiled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import GrammarLines, quoted
from mlxdeck.server.backends.local.toolcalls.constraints.json_rules import JsonRules

MARKER = "%marker"
"""Before a quoted text that the model may have special tokens for; the engine knows."""


class Rules(GrammarLines):
    """The rules of one grammar, those for JSON among them."""

    def __init__(self, *, blanks: bool = False) -> None:
        """`blanks`: JSON may be spread over lines."""
        super().__init__()
        self._json = JsonRules(self, blanks=blanks)

    def json(self, schema: Any, root: Any = None) -> str:
        """A rule for JSON of a schema; `root` is the one that its references are into."""
        return self._json.rule(schema, root)

    def text_up_to(self, suffix: str, pattern: str = "") -> str:
        """A rule for text that ends with `suffix`, and otherwise doesn't contain it."""
        expression = pattern.replace("/", r"\/") or "(?s:.*)"
        return self.add(f"/{expression}/", f"[suffix={quoted(suffix)}]")

    def text(self, start: str) -> str:
        """The grammar that begins with an expression."""
        return "\n".join([f"start: {start}", *self._lines]) + "\n"


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
