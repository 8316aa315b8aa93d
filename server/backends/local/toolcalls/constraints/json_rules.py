"""Grammar rules for JSON of a schema.

Most of a schema becomes rules of our own. llguidance's `%json` does not bound some parts (the
digits of a number), refuses others (references to anywhere), and can't exclude `-0`. What these
rules don't cover goes to `%json`, with bounds added to the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import GrammarLines, quoted
from mlxdeck.server.schemas.loosening import bounded, closed
from mlxdeck.server.schemas.pointers import DEFINED, pointed, standalone

_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
        *("writeOnly", "$comment", "$schema", "$id", "nullable", *DEFINED),
    }
)
_OBJECT = frozenset(
    {
        *("type", "properties", "required", "additionalProperties"),
        *("minProperties", "maxProperties"),
    }
)
_ARRAY = frozenset({"type", "items", "minItems", "maxItems"})
_SCALAR: Mapping[str, frozenset[str]] = {
    "string": frozenset({"type", "pattern", "format", "minLength", "maxLength"}),
    **dict.fromkeys(
        ("number", "integer"),
        frozenset(
            {
                *("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
                "multipleOf",
            }
        ),
    ),
    **dict.fromkeys(("boolean", "null"), frozenset({"type"})),
}
_KEYWORDS: Mapping[str, frozenset[str]] = {**_SCALAR, "object": _OBJECT, "array": _ARRAY}
_INTEGER = "/0|-?[1-9][0-9]{0,18}/"
# As many digits as a float has, and exponents that it can have.
_EXPONENT = "[eE]([+]?([0-9]{1,2}|[12][0-9]{2}|30[0-8])|-([0-9]{1,2}|[12][0-9]{2}|3[0-2][0-9]))"
_NUMBER = rf"/-?(0|[1-9][0-9]{{0,18}})(\.0{{0,3}}[0-9]{{1,17}})?({_EXPONENT})?/"
_WORDS = {"boolean": '("true" | "false")', "null": '"null"'}
MAX_ITEMS = 256
"""Of a list whose length is counted out in rules."""
MAX_KEY_CHARS = 64
_BLANKS = r"[ \t\r\n]{0,32}"


class JsonRules:
    """Writes the rules of one grammar's schemas."""

    def __init__(self, lines: GrammarLines, *, blanks: bool = False) -> None:
        """With `blanks`, JSON may span lines; without, each value has exactly one spelling."""
        self.lines = lines
        self._names: dict[str, str] = {}
        self._any = ""
        if blanks:
            self.marks = {c: f"/{_BLANKS}{_mark(c)}{_BLANKS}/" for c in ",:"}
            self.marks |= {c: f"/{_mark(c)}{_BLANKS}/" for c in "{["}
            self.marks |= {c: f"/{_BLANKS}{_mark(c)}/" for c in "}]"}
            self.style: dict[str, Any] = {
                "whitespace_flexible": True,
                "whitespace_pattern": _BLANKS,
            }
        else:
            self.marks = {c: json.dumps(c) for c in "{}[]"} | {",": '", "', ":": '": "'}
            # No blanks without end for a model to get lost in.
            self.style = {
                "whitespace_flexible": False,
                "item_separator": ", ",
                "key_separator": ": ",
            }

    def rule(self, schema: Any, root: Any = None) -> str:
        """The name of a rule for values of a schema; `root` is what its references are into."""
        return self.named(_Part(self, schema if root is None else root).expression(schema))

    def named(self, expression: str) -> str:
        """The name of a rule; the same for the same expression."""
        if expression.isidentifier():
            return expression
        if expression not in self._names:
            self._names[expression] = self.lines.add(expression)
        return self._names[expression]

    def leaf(self, schema: Any) -> str:
        """llguidance's own rules for a schema that is not covered here."""
        told = bounded(closed(schema))
        if isinstance(told, Mapping):
            told = {**told, "x-guidance": self.style}
        return self.named(f"%json {json.dumps(told)}")

    def anything(self) -> str:
        """Any JSON."""
        if not self._any:
            self._any = self.lines.reserve()
            ways = [self.text(), _NUMBER, *_WORDS.values()]
            ways += [self.mapping(self._any), self.listed(self._any, 0, None)]
            self.lines.tell(self._any, " | ".join(ways))
        return self._any

    def text(self) -> str:
        """Any text."""
        return self.leaf({"type": "string"})

    def mapping(self, value: str, low: int = 0, high: int | None = None) -> str:
        """An object of any keys."""
        marks = self.marks
        # A name has an end: without one, a model may write it until it runs out of tokens.
        key = self.leaf({"type": "string", "maxLength": MAX_KEY_CHARS})
        pair = self.named(f"{key} {marks[':']} {value}")
        return f"{marks['{']} {self._several(pair, low, high)} {marks['}']}"

    def _several(self, item: str, low: int, high: int | None) -> str:
        """So many of something, with commas between."""
        if high == 0:
            return ""
        more = "*" if high is None else f"{{{max(0, low - 1)},{high - 1}}}"
        more = f"{{{low - 1},}}" if high is None and low > 1 else more
        items = item if high == 1 else f"{item} ({self.marks[',']} {item}){more}"
        return items if low else f"({items})?"

    def listed(self, item: str, low: int, high: int | None) -> str:
        """An array."""
        marks = self.marks
        return f"{marks['[']} {self._several(item, low, high)} {marks[']']}"

    def others(self, names: Iterable[str], value: str, high: int | None) -> str:
        """More properties, of other names, behind some that are named; each after a comma."""
        # Names in letters that need no escape, without the names that are listed elsewhere.
        told = " | ".join(map(_quoted, names))
        key = self.lines.terminal(r'/"[^"\\\x00-\x1f\x7f]{1,64}"/' + f" & ~({told})")
        pair = self.named(f"{self.marks[',']} {key} {self.marks[':']} {value}")
        return f"({pair})*" if high is None else f"({pair}){{0,{high}}}"

    def fields(self, pairs: Iterable[tuple[str, str, bool]], others: str = "") -> str:
        """An object of properties (name, value, whether required), in this order.

        `others` may follow, if there are any.
        """
        marks, comma = self.marks, self.marks[","]
        told = [(f"{_quoted(name)} {marks[':']} {value}", needed) for name, value, needed in pairs]
        ways: list[str] = []
        # What may follow once something has been written, from the last property on.
        rest, seen_needed = others, False
        for pair, needed in reversed(told):
            name = self.named(pair)
            first = f"{name} {rest}".strip()
            ways = [first] if needed else [first, *ways]
            seen_needed = seen_needed or needed
            rest = self.named(f"{f'{comma} {name}' if needed else f'({comma} {name})?'} {rest}")
        inner = f"({' | '.join(ways)})" if ways else ""
        return f"{marks['{']} {inner}{'' if seen_needed or not ways else '?'} {marks['}']}"


class _Part:
    """Schemas whose references are into the same root."""

    def __init__(self, rules: JsonRules, root: Any) -> None:
        self._rules = rules
        self._root = root
        self._referred: dict[str, str] = {}

    def expression(self, schema: Any) -> str:
        """The rule for a value of the schema."""
        if schema is True:
            return self._rules.anything()
        if not isinstance(schema, Mapping):
            return self._rules.leaf(schema)
        told = {key: each for key, each in schema.items() if key not in _ANNOTATIONS}
        if not told:
            return self._rules.anything()
        if told.keys() == {"$ref"}:
            return self._reference(told["$ref"])
        if told.keys() == {"anyOf"} and isinstance(told["anyOf"], list):
            return self._either(told["anyOf"])
        kind = told.get("type") or _implied(told)
        if isinstance(kind, list) and told.keys() <= _all_keywords(kind):
            ways = [{k: e for k, e in told.items() if k in _KEYWORDS[one]} for one in kind]
            return self._either([{**w, "type": one} for w, one in zip(ways, kind, strict=True)])
        found = None
        if kind == "object" and told.keys() <= _OBJECT:
            found = self._object(told)
        elif kind == "array" and told.keys() <= _ARRAY:
            found = self._array(told)
        elif told.keys() == {"type"}:
            found = {**_WORDS, "integer": _INTEGER, "number": _NUMBER}.get(str(kind))
        return self._rules.leaf(standalone(schema, self._root)) if found is None else found

    def _rule(self, schema: Any) -> str:
        return self._rules.named(self.expression(schema))

    def _reference(self, path: Any) -> str:
        if path not in self._referred:
            # It may refer to itself.
            self._referred[path] = self._rules.lines.reserve()
            body = self.expression(pointed(path, self._root))
            self._rules.lines.tell(self._referred[path], body)
        return self._referred[path]

    def _either(self, ways: list[Any]) -> str:
        # An engine refuses all of a grammar for one alternative that nothing conforms to.
        ways = [way for way in ways if way is not False and way != {"not": {}}] or ways
        return f"({' | '.join(dict.fromkeys(self._rule(way) for way in ways))})"

    def _object(self, told: Mapping[str, Any]) -> str | None:
        named = dict(told.get("properties") or {})
        needed = told.get("required") or []
        low, high = told.get("minProperties", 0), told.get("maxProperties")
        says_others = "additionalProperties" in told
        others = told["additionalProperties"] if says_others else "properties" not in told
        missing = [name for name in needed if name not in named]
        if (missing and others is False) and says_others:
            return None
        if others is not False and not named and not missing:
            fits = low <= MAX_ITEMS and (high is None or low <= high <= MAX_ITEMS)
            return self._rules.mapping(self._rule(others), low, high) if fits else None
        named |= dict.fromkeys(missing, True)
        named = {name: each for name, each in named.items() if each is not False or name in needed}
        if any(each is False for each in named.values()) or low > len(needed):
            return None
        room = None if high is None else high - len(named)
        if room is not None and room < 0:
            return None
        more = ""
        # With nothing that must be there, a comma might come first.
        if others is not False and (says_others or not told.get("properties")) and needed:
            more = self._rules.others(named, self._rule(others), room)
        elif others is not False and says_others:
            return None
        told_fields = ((name, self._rule(each), name in needed) for name, each in named.items())
        return self._rules.fields(told_fields, more)

    def _array(self, told: Mapping[str, Any]) -> str | None:
        low, high = told.get("minItems", 0), told.get("maxItems")
        items = told.get("items", True)
        if items is False or low > MAX_ITEMS or (high or 0) > MAX_ITEMS:
            return None
        if high is not None and high < low:
            return None
        return self._rules.listed(self._rule(items), low, high)


def _implied(told: Mapping[str, Any]) -> str | None:
    """The type that a schema implies without naming it."""
    if told.keys() <= _OBJECT:
        return "object"
    return "array" if told.keys() <= _ARRAY else None


def _all_keywords(kinds: list[str]) -> frozenset[str]:
    return frozenset().union(*(_KEYWORDS.get(kind, frozenset()) for kind in kinds))


def _quoted(name: str) -> str:
    """A key as JSON writes it, as a Lark string."""
    return quoted(json.dumps(name, ensure_ascii=False))


def _mark(char: str) -> str:
    return f"\\{char}" if char in "{}[]" else char
