"""Grammar rules for unquoted values between tags.

They accept the texts that `schemas/values.py` reads as a conforming value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.schemas.branches import branch_choices, branch_kinds
from mlxdeck.server.schemas.loosening import FORMATS
from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import to_text

_ANY_TEXT = "(?s:.*)"
MAX_WAYS = 64
"""Choices that are rules each: a parser follows only so many, more are one regular expression."""
# Keywords for every type, and so for texts; no regular expression here can enforce them.
_BEYOND = ("not", "if", "allOf", "oneOf")


def value_rule(schema: Schema, suffix: str, markup: Sequence[str], rules: Rules) -> str | None:
    """An unquoted value of a schema and its end, as an expression; None if there is none."""
    if schema.choices is not None:
        texts = dict.fromkeys(to_text(each, schema, markup) for each in schema.choices)
        if len(texts) > MAX_WAYS:
            listed = "|".join(map(re.escape, texts))
            return f"/{_escaped(listed)}/ {quoted(suffix)}"
        return f"({' | '.join(map(quoted, texts))}) {quoted(suffix)}"
    if "string" not in schema.kinds:
        return f"{rules.json(schema.standalone)} {quoted(suffix)}"
    ways = []
    for branch in schema.branches:
        if "string" not in branch_kinds(branch):
            continue
        expressions = text_expressions(branch)
        if expressions is None:
            return None
        if not expressions:
            return text_rule(rules, suffix, ())
        ways.append(text_rule(rules, suffix, expressions))
    if not schema.text_only:
        ways.append(rules.add(f"{rules.json(schema.standalone)} {quoted(suffix)}"))
    return f"({' | '.join(ways)})"


def text_rule(rules: Rules, suffix: str, expressions: Sequence[str]) -> str:
    """A rule for text that ends with `suffix`, doesn't contain it, and matches as a whole."""
    written = " & ".join(f"/{_escaped(each)}/" for each in expressions or (_ANY_TEXT,))
    return rules.add(written, f"[suffix={quoted(suffix)}]")


def _escaped(expression: str) -> str:
    """The expression between slashes, on one line."""
    return re.sub(r"\\.|/|\n", _escape, expression, flags=re.DOTALL)


def _escape(found: re.Match[str]) -> str:
    return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0])


def text_expressions(branch: Mapping[str, Any]) -> list[str] | None:
    """Regular expressions that a text has to match as a whole; None if they don't say it all."""
    if any(key in branch for key in _BEYOND):
        return None
    if (listed := branch_choices(branch)) is not None:
        texts = [re.escape(each) for each in listed if isinstance(each, str)]
        return ["|".join(texts)]
    expressions = []
    pattern = branch.get("pattern", FORMATS.get(str(branch.get("format"))))
    if isinstance(pattern, str):
        expressions.append("|".join(map(_whole, _alternatives(ascii_classes(pattern)))))
    low, high = branch.get("minLength", 0), branch.get("maxLength")
    if not isinstance(low, int) or not isinstance(high, int | None):
        return None
    if low or high is not None:
        expressions.append(f"(?s:.{{{low},{'' if high is None else high}}})")
    return expressions


_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_"}


def ascii_classes(pattern: str) -> str:
    """The pattern with the digits and letters that JSON Schema means, not those of all scripts."""
    found, in_class, at = [], False, 0
    while at < len(pattern):
        part = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        at += len(part)
        if part in ("[", "]"):
            in_class = part == "["
        ranges = _CLASSES.get(part[1:].lower(), "")
        if not ranges or (in_class and part[1].isupper()):
            found.append(part)
        elif in_class:
            found.append(ranges)
        else:
            found.append(f"[{'^' if part[1].isupper() else ''}{ranges}]")
    return "".join(found)


def _whole(pattern: str) -> str:
    """A pattern that may match anywhere as one that matches the whole text."""
    begin = "" if pattern.startswith("^") else _ANY_TEXT
    end = "" if re.search(r"(?<!\\)(\\\\)*\$$", pattern) else _ANY_TEXT
    return f"{begin}({pattern.removeprefix('^').removesuffix('$' if not end else '')}){end}"


def _alternatives(pattern: str) -> list[str]:
    """A pattern's alternatives: anchors belong to one each."""
    parts, depth, in_class, begin, at = [], 0, False, 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and not depth:
            parts.append(pattern[begin:at])
            begin = at + 1
        at += 1
    return [*parts, pattern[begin:]]


def separated(parts: Sequence[tuple[str, bool]], separator: str = ", ") -> str:
    """An expression for rules in their order with separators between; some may be left out."""
    ways = []
    for n, (rule, needed) in enumerate(parts):
        others = (f"{quoted(separator)} {each}" for each, _ in parts[n + 1 :])
        marks = ("" if must else "?" for _, must in parts[n + 1 :])
        ways.append(" ".join([rule, *(f"({o}){m}" for o, m in zip(others, marks, strict=True))]))
        if needed:
            return f"({' | '.join(ways)})"
    return f"({' | '.join(ways)})?" if ways else '""'
