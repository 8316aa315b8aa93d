"""What a JSON Schema allows, with its references followed: kinds, properties, choices. Pure.

A schema that doesn't say what kind of value it wants allows any; that is never taken for a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from jsonschema.exceptions import SchemaError, UnknownType
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

ANYTHING = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
MAX_DEPTH = 12
"""How many references and combinations are followed, one inside the other."""
MAX_BRANCHES = 64
# What a list of properties says nothing of.
_BEYOND = (
    *("minProperties", "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("dependencies", "if", "not", "allOf", "oneOf", "enum", "const"),
)
_TOLD_ONLY = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
    + ("$comment", "$schema", "$id", "$anchor", "$defs", "definitions")
)
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf")
_LITERAL = ("enum", "const", "default", "examples")
_FEW: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
_NAMED = ("properties", "patternProperties")
_TOLD_BY = {
    "object": ("properties", "required", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_UNUSABLE = (
    *(SchemaError, UnknownType, Unresolvable, RecursionError, re.error),
    *(TypeError, ValueError, AttributeError, KeyError),
)


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a tool: the properties it needs, those it can do without, any others."""

    required: dict[str, Schema]
    optional: dict[str, Schema]
    other: Schema | None = None
    """What others may be, where none is named."""
    order: tuple[str, ...] = ()
    """All names, as the schema lists them."""

    @property
    def orders(self) -> tuple[tuple[tuple[str, Schema, bool], ...], ...]:
        """Names, schemas and whether they are needed: those needed first, and as they are listed.

        Models write either.
        """
        first = tuple((name, told, True) for name, told in self.required.items())
        first += tuple((name, told, False) for name, told in self.optional.items())
        both = {**self.required, **self.optional}
        listed = tuple((name, both[name], name in self.required) for name in self.order)
        return (first,) if first == listed else (first, listed)


@dataclass(frozen=True)
class Schema:
    """A schema, and the whole one that its references are into."""

    told: Any
    root: Any

    @classmethod
    def of(cls, whole: Any) -> Schema:
        """A schema that is part of no other."""
        return cls(whole, whole)

    @cached_property
    def branches(self) -> tuple[dict[str, Any], ...]:
        """Schemas without references and combinations at their top, any of which is enough."""
        return tuple(_branches(self.told, self.root, 0))[:MAX_BRANCHES]

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The types that are allowed, also where only other keywords tell; all if nothing does."""
        found: set[str] = set()
        for branch in self.branches:
            found |= branch_kinds(branch)
        return frozenset(found) or ANYTHING

    @property
    def text_only(self) -> bool:
        """Whether nothing but a text is meant."""
        return self.kinds == {"string"}

    @cached_property
    def choices(self) -> list[Any] | None:
        """All values that conform, where they are listed."""
        listed: list[Any] = []
        for branch in self.branches:
            part = branch_choices(branch)
            if part is None:
                part = _FEW.get(str(branch.get("type")))
            if part is None:
                return None
            listed += [value for value in part if value not in listed or isinstance(value, bool)]
        return [value for value in listed if self.accepts(value)] or None

    @cached_property
    def objects(self) -> tuple[dict[str, Any], ...]:
        """The branches that allow an object."""
        return tuple(each for each in self.branches if "object" in branch_kinds(each))

    def member(self, name: str) -> Schema:
        """What is said of a property; anything goes where nothing is."""
        found: list[Any] = []
        for branch in self.objects:
            told = _property(branch, name)
            if told not in found:
                found.append(told)
        if len(found) > 1:
            # Which one it is depends on the other properties.
            found = [{"anyOf": [each for each in found if each != {}] or [{}]}]
        return Schema(found[0] if found else {}, self.root)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The properties that are declared."""
        listed = [_mapping(branch.get("properties")) for branch in self.objects]
        return tuple(dict.fromkeys(name for each in listed for name in each))

    @cached_property
    def is_open(self) -> bool:
        """Whether other properties are expected too; a list of some means: these."""
        return any(
            branch.get("additionalProperties") not in (None, False)
            or branch.get("patternProperties")
            or ("properties" not in branch and branch.get("additionalProperties") is not False)
            for branch in self.objects
        )

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """The ways to give properties one after the other; none if more is said than that."""
        found = []
        for branch in self.objects:
            named = branch.get("properties", {})
            needed = branch.get("required", [])
            if (
                any(key in branch for key in _BEYOND)
                or not isinstance(named, Mapping)
                or not isinstance(needed, list)
            ):
                return ()
            names = dict.fromkeys([*named, *(each for each in needed if isinstance(each, str))])
            told = {name: Schema(_property(branch, name), self.root) for name in names}
            if any(each.told is False and name in needed for name, each in told.items()):
                continue
            others = branch.get("additionalProperties", "properties" not in branch)
            other = Schema(others if isinstance(others, Mapping) else {}, self.root)
            found.append(
                Signature(
                    {name: each for name, each in told.items() if name in needed},
                    {
                        name: each
                        for name, each in told.items()
                        if name not in needed and each.told is not False
                    },
                    other if others is not False and not names else None,
                    tuple(name for name in names if told[name].told is not False),
                )
            )
        return tuple(found)

    @property
    def standalone(self) -> Any:
        """The same schema as one of its own, with what it refers to among its definitions."""
        defined: dict[str, Any] = {}
        names: dict[str, str] = {}

        def moved(told: Any) -> Any:
            if isinstance(told, list):
                return [moved(each) for each in told]
            if not isinstance(told, Mapping):
                return told
            found = {key: each if key in _LITERAL else moved(each) for key, each in told.items()}
            for key in found.keys() & set(_NAMED):
                found[key] = {name: moved(each) for name, each in _mapping(told[key]).items()}
            path = told.get("$ref")
            if isinstance(path, str) and path.startswith("#"):
                if path not in names:
                    names[path] = f"d{len(names)}"
                    defined[names[path]] = moved(referred(path, self.root))
                found["$ref"] = f"#/$defs/{names[path]}"
            return found

        told = self.told
        if not isinstance(told, Mapping):
            return {}
        found = moved({key: told[key] for key in told if key not in ("$defs", "definitions")})
        return {**found, "$defs": defined} if defined else found

    def item(self, index: int) -> Schema:
        """What is said of an item of a list."""
        for branch in self.branches:
            first = branch.get("prefixItems")
            if isinstance(first, list) and index < len(first):
                return Schema(first[index], self.root)
            if isinstance(items := branch.get("items"), Mapping):
                return Schema(items, self.root)
        return Schema({}, self.root)

    @cached_property
    def _validator(self) -> Any:
        kind = validator_for(self.root if isinstance(self.root, Mapping) else {})
        kind.check_schema(self.told)
        # A registry of its own: without one, a `$ref` of a client's could make us fetch a URL.
        return kind(self.root, registry=Registry()).evolve(schema=self.told)

    def accepts(self, value: Any) -> bool:
        """Whether a value conforms; if the schema can't be judged by, whether its kind does."""
        try:
            return bool(self._validator.is_valid(value))
        except _UNUSABLE:
            return bool(kinds_of_value(value) & self.kinds)


def kinds_of_value(value: Any) -> frozenset[str]:
    """The types that a value is of."""
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if value is None:
        return frozenset({"null"})
    if isinstance(value, int):
        return frozenset({"integer", "number"})
    if isinstance(value, float):
        return frozenset({"number", "integer"} if value.is_integer() else {"number"})
    names = {str: "string", list: "array", dict: "object"}
    return frozenset(name for kind, name in names.items() if isinstance(value, kind))


def branch_kinds(branch: Mapping[str, Any]) -> frozenset[str]:
    """The types that one branch allows."""
    listed = branch_choices(branch)
    if listed is not None:
        return frozenset().union(*(kinds_of_value(value) for value in listed))
    told = branch.get("type")
    if isinstance(told, str):
        told = [told]
    if isinstance(told, list):
        return frozenset(each for each in told if each in ANYTHING) or ANYTHING
    for kind, keywords in _TOLD_BY.items():
        if any(keyword in branch for keyword in keywords):
            return frozenset({kind})
    return ANYTHING


def branch_choices(branch: Mapping[str, Any]) -> list[Any] | None:
    """The values that one branch lists; None if it doesn't."""
    if "const" in branch:
        return [branch["const"]]
    listed = branch.get("enum")
    return listed if isinstance(listed, list) and listed else None


def referred(path: Any, root: Any) -> Any:
    """What a reference into the same schema points to; anything goes where that is nothing."""
    if not isinstance(path, str) or not path.startswith("#"):
        return {}
    found = root
    for part in filter(None, unquote(path[1:]).split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            return {}
    return found


def _branches(told: Any, root: Any, depth: int) -> Iterator[dict[str, Any]]:
    if told is False:
        return
    if not isinstance(told, Mapping) or depth > MAX_DEPTH:
        yield {}
        return
    own = {key: value for key, value in told.items() if key not in _COMBINED}
    ways = [own]
    parts: list[list[Any]] = []
    if "$ref" in told:
        parts.append([referred(told["$ref"], root)])
    if isinstance(every := told.get("allOf"), list):
        parts += [[each] for each in every]
    parts += [any_ for key in ("anyOf", "oneOf") if isinstance(any_ := told.get(key), list)]
    if not _apart(told.get("oneOf"), root, depth):
        own["oneOf"] = True
    for part in parts:
        found = [each for way in part for each in _branches(way, root, depth + 1)]
        joined = (_joined(one, other) for one in ways for other in found)
        ways = [each for each in joined if each is not None][:MAX_BRANCHES]
    yield from ways


def _apart(ways: Any, root: Any, depth: int) -> bool:
    """Whether no value can conform to two of the schemas, as far as their kinds tell."""
    seen: set[str] = set()
    for way in ways if isinstance(ways, list) else ():
        kinds: set[str] = set()
        for branch in _branches(way, root, depth + 1):
            kinds |= set() if branch_choices(branch) else branch_kinds(branch)
        if seen & kinds:
            return False
        seen |= kinds
    return True


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """What conforms to both; None if nothing can."""
    found = {**one, **other}
    if "type" in one and "type" in other:
        kinds = branch_kinds({"type": one["type"]}) & _wider(branch_kinds({"type": other["type"]}))
        if not kinds:
            return None
        found["type"] = sorted(kinds) if len(kinds) > 1 else next(iter(kinds))
    if "enum" in one and "enum" in other:
        found["enum"] = [each for each in one["enum"] if each in other["enum"]]
    if isinstance(first := one.get("properties"), Mapping):
        second = _mapping(other.get("properties"))
        found["properties"] = {**first, **second} | {
            name: {"allOf": [first[name], second[name]]}
            for name in first.keys() & second.keys()
            if first[name] != second[name]
        }
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        found["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    if _forbids(one, other) or _forbids(other, one):
        found["allOf"] = [one, other]
    merged = {"type", "enum", "properties", "required", *_TOLD_ONLY}
    for key in (one.keys() & other.keys()) - merged:
        if one[key] != other[key]:
            # Kept for who has to hold to it; what is left out here allows too much.
            found.setdefault("allOf", [])
            found["allOf"] = [*found["allOf"], {key: one[key]}]
    return found


def _forbids(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a schema speaks of properties that only the other one names."""
    names = _mapping(other.get("properties")).keys() - _mapping(one.get("properties")).keys()
    return "additionalProperties" in one and bool(names)


def _wider(kinds: frozenset[str]) -> frozenset[str]:
    return kinds | {"integer"} if "number" in kinds else kinds


def _property(branch: Mapping[str, Any], name: str) -> Any:
    named = _mapping(branch.get("properties"))
    if name in named:
        return named[name]
    for pattern, told in _mapping(branch.get("patternProperties")).items():
        try:
            if re.search(pattern, name):
                return told
        except re.error:
            continue
    others = branch.get("additionalProperties")
    return others if isinstance(others, Mapping) else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
