"""The branches of a schema: its content without references and combinations. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

from mlxdeck.server.schemas.pointers import is_place

ANYTHING = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
MAX_DEPTH = 12
"""How many references and combinations are followed, one inside the other."""
MAX_BRANCHES = 64
MAX_VISITS = 2_000
"""Schemas looked at for the branches of one; where that is not enough, anything goes."""
_TOLD_ONLY = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
    + ("$comment", "$schema", "$id", "$anchor", "$defs", "definitions")
)
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf")
_TOLD_BY = {
    "object": ("properties", "required", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


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
        if is_place(key, found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            return {}
    return found


class Branches:
    """The branches of schemas with one root, as far as a number of visits goes."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._visits = 0

    def of(self, told: Any, depth: int) -> list[dict[str, Any]]:
        """The branches of one schema; anything goes where it is too deep or too much."""
        if told is False:
            return []
        self._visits += 1
        if not isinstance(told, Mapping) or depth > MAX_DEPTH or self._visits > MAX_VISITS:
            return [{}]
        own = {key: value for key, value in told.items() if key not in _COMBINED}
        ways = [own]
        parts: list[list[Any]] = []
        if "$ref" in told:
            parts.append([referred(told["$ref"], self._root)])
        if isinstance(every := told.get("allOf"), list):
            parts += [[each] for each in every]
        parts += [any_ for key in ("anyOf", "oneOf") if isinstance(any_ := told.get(key), list)]
        if not self._apart(told.get("oneOf"), depth):
            own["oneOf"] = True
        for part in parts:
            found = self._any_of(part, depth + 1)
            joined = (_joined(one, other) for one in ways for other in found)
            ways = list(islice((each for each in joined if each is not None), MAX_BRANCHES))
        return ways

    def _any_of(self, schemas: Iterable[Any], depth: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in schemas:
            found += self.of(each, depth)
            if len(found) >= MAX_BRANCHES:
                break
        return found

    def _apart(self, ways: Any, depth: int) -> bool:
        """Whether no value can conform to two of the schemas, judged by their types."""
        seen: set[str] = set()
        for way in ways if isinstance(ways, list) else ():
            kinds: set[str] = set()
            for branch in self.of(way, depth + 1):
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
        found["enum"] = _in_both(one["enum"], other["enum"])
    if isinstance(first := one.get("properties"), Mapping):
        second = mapping(other.get("properties"))
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
    names = mapping(other.get("properties")).keys() - mapping(one.get("properties")).keys()
    return "additionalProperties" in one and bool(names)


def _wider(kinds: frozenset[str]) -> frozenset[str]:
    return kinds | {"integer"} if "number" in kinds else kinds


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order."""
    return list({_identity(value): value for value in values}.values())


def _in_both(one: Any, other: Any) -> list[Any]:
    if not isinstance(one, list) or not isinstance(other, list):
        return one if isinstance(one, list) else []
    there = {_identity(value) for value in other}
    return [value for value in one if _identity(value) in there]


def _identity(value: Any) -> Any:
    """Something that is equal for equal values only, and can be looked up."""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, default=str)
    # True and 1 are equal to Python.
    return (isinstance(value, bool), value)


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, empty for anything that is none."""
    return value if isinstance(value, Mapping) else {}
