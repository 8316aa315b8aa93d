"""Schemas of clients, read by their evident meaning.

A tool's schema is seldom the client's own: agents pass on the schemas of tool servers. So only
schemas that make every call impossible are refused: arguments that are no object, a type that
doesn't exist. Other errors are read by their evident meaning (`"required": null`, `"String"`,
`"nullable": true`), or left out. Then the constraint of this one tool is weaker. The schema of an
answer is the client's own, and every error in it is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.limits import within_limits
from mlxdeck.server.schemas.pointers import VALUES, resolved

KINDS = ("string", "number", "integer", "boolean", "null", "array", "object")
MAX_DEPTH = 48
"""Below that, anything goes: what recurses here recurses in other libraries too."""
MAX_VALUE_DEPTH = 32
"""Of a value in a schema, such as a default."""
MAX_NODES = 20_000
"""Schemas in the schema of one tool; beyond that, anything goes too."""
MAX_VISITS = 500
"""Schemas looked at to find out whether one describes an object."""
MAX_JUDGED_NODES = 400
"""Above this size, an answer's schema is read but not validated: that would delay others."""
_ALIASES = {
    **dict.fromkeys(("str", "text", "char"), "string"),
    **dict.fromkeys(("int", "int32", "int64", "long", "uint"), "integer"),
    **dict.fromkeys(("float", "double", "decimal", "num"), "number"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("none", "nil", "nonetype", "undefined"), "null"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "map", "struct", "record"), "object"),
}
_ANY = ("any", "mixed", "unknown", "*", "")
_UNICODE_CLASS = re.compile(r"\\\\[pP]\{\w+\}")
_WORDS = {"true": True, "false": False}
_DROP = object()
"""Result of a keyword's reader if the value has no sensible meaning."""


def tool_schema(
    told: dict[str, Any], path: str, cut: Callable[[], object] = bool
) -> dict[str, Any]:
    """The schema of a tool's arguments; the same object where nothing is odd about it.

    `cut` is called where some of it is left out because it is too deep or too large.

    Raises:
        BadRequest: No call could ever conform: it doesn't describe an object.
    """
    kinds = _told_kinds(told.get("type"), f"{path}.type")
    if kinds and "object" not in kinds:
        raise BadRequest(
            f"{path}.type", f"must be 'object', because arguments are an object, got {kinds[0]!r}"
        )
    found = readable(told, cut)
    if not _Objects(found).possible(found, 0):
        raise BadRequest(path, "must describe an object, because arguments are an object")
    if isinstance(found.get("type"), list):
        found = {**found, "type": "object"}
    return found


def answer_schema(told: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of an answer.

    Raises:
        BadRequest: It is no JSON Schema, is over a limit, or has a reference without a target.
            The error names the keyword or the limit.
    """
    within_limits(told, path)
    if not isinstance(told.get("$schema", ""), str):
        raise BadRequest(f"{path}.$schema", "must be a text")
    if _n_nodes(told, 0) <= MAX_JUDGED_NODES:
        try:
            # Python's expressions know no classes of Unicode, JSON Schema's do.
            known = json.loads(_UNICODE_CLASS.sub("a", json.dumps(told)))
            validator_for(told).check_schema(known)
        except SchemaError as error:
            at = ".".join([path, *map(str, error.absolute_path)])
            raise BadRequest(at, f"not a valid JSON Schema: {error.message[:200]}") from error
        except RecursionError as error:
            raise BadRequest(path, "holds a pattern that is nested too deeply") from error
    lost = _lost_reference(told, told, 0)
    if lost:
        why = "leads to no schema in this one; expected a path, as '#/$defs/name'"
        raise BadRequest(path, f"$ref {lost[:100]!r} {why}")
    return readable(told)


def readable(told: dict[str, Any], cut: Callable[[], object] = bool) -> dict[str, Any]:
    """A schema that any reader of JSON Schema can take, of the same meaning as far as it has one.

    References lead somewhere, keywords have values of their kinds, nothing is nested too deep.
    """
    reader = _Reader()
    read = reader.schema(told, 0)
    if reader.is_cut:
        cut()
    found = _with_references(read, read, 0)
    # 4.0 and 4 are equal, but not to all readers.
    return told if found == told and repr(found) == repr(told) else found


def _told_kinds(told: Any, path: str) -> list[str]:
    """The types that a schema names; none where it leaves that open."""
    listed = told if isinstance(told, list) else [] if told is None else [told]
    kinds = []
    for each in listed:
        kind = _kind(each)
        if kind is None:
            raise BadRequest(path, f"{each!r:.50} is not a type of JSON Schema")
        kinds.append(kind)
    return [] if "" in kinds else kinds


def _kind(told: Any) -> str | None:
    """The intended type; empty for any, None if it is none."""
    if not isinstance(told, str):
        return None
    word = told.strip().lower()
    if word in KINDS:
        return word
    return "" if word in _ANY else _ALIASES.get(word)


class _Objects:
    """Whether a schema may describe an object; if the check takes too long, it may."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._visits = 0

    def possible(self, told: Any, depth: int) -> bool:
        """Whether an object may conform."""
        self._visits += 1
        if not isinstance(told, Mapping) or depth > 8 or self._visits > MAX_VISITS:
            return told is not False
        kinds = told.get("type", "object")
        if "object" not in ([kinds] if isinstance(kinds, str) else kinds):
            return False
        listed = [told["const"]] if "const" in told else told.get("enum")
        if listed and not any(isinstance(each, dict) for each in listed):
            return False
        if "$ref" in told and not self.possible(resolved(told["$ref"], self._root), depth + 1):
            return False
        for key, enough in (("anyOf", any), ("oneOf", any), ("allOf", all)):
            if key in told and not enough(self.possible(each, depth + 1) for each in told[key]):
                return False
        return True


def _n_nodes(told: Any, depth: int) -> int:
    if depth > 2 * MAX_DEPTH:
        return MAX_NODES
    if isinstance(told, dict):
        return 1 + sum(_n_nodes(each, depth + 1) for each in told.values())
    return 1 + sum(_n_nodes(each, depth + 1) for each in told) if isinstance(told, list) else 0


def _lost_reference(told: Any, root: Any, depth: int) -> str:
    """The first reference that leads nowhere."""
    if depth > 2 * MAX_DEPTH:
        return ""
    if isinstance(told, dict):
        path = told.get("$ref")
        if isinstance(path, str) and resolved(path, root) is None:
            return path
        named = [
            e for key in _NAMED if isinstance(found := told.get(key), dict) for e in found.values()
        ]
        skipped = (*VALUES, *_NAMED)
        each_of: Any = [*named, *(value for key, value in told.items() if key not in skipped)]
    else:
        each_of = told if isinstance(told, list) else ()
    return next(filter(None, (_lost_reference(each, root, depth + 1) for each in each_of)), "")


_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


class _Reader:
    """Reads one schema, from the top down."""

    def __init__(self) -> None:
        self._n_nodes = 0
        self.is_cut = False
        of: dict[str, Callable[[Any, int], Any]] = {}
        of |= dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), self._named)
        of |= dict.fromkeys(("$defs", "definitions"), self._named)
        of |= dict.fromkeys(("additionalProperties", "items", "not", "if", "then"), self._one)
        of |= dict.fromkeys(("else", "contains", "propertyNames", "additionalItems"), self._one)
        of |= dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), self._one)
        of |= dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), self._listed)
        of |= dict.fromkeys(("minimum", "maximum"), _number)
        of |= dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _number)
        of |= dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count)
        of |= dict.fromkeys(("minProperties", "maxProperties"), _count)
        of |= dict.fromkeys(("minContains", "maxContains"), _count)
        of |= dict.fromkeys(("pattern", "format", "$ref", "$schema", "$id", "$anchor"), _text)
        of |= {"type": _type, "enum": _enum, "required": _required, "uniqueItems": _flag}
        of |= {"multipleOf": _step}
        of |= {"const": _value, "default": _value, "examples": _value, "example": _value}
        self._of = of

    def schema(self, told: Any, depth: int) -> Any:
        """One schema; a boolean is one too."""
        if isinstance(told, str):
            return {"type": kind} if (kind := _kind(told)) else {}
        if not isinstance(told, dict):
            return told if isinstance(told, bool) else {}
        self._n_nodes += 1
        if depth > MAX_DEPTH or self._n_nodes > MAX_NODES:
            self.is_cut = True
            return {}
        found = {}
        for key, value in _modern(told).items():
            read = self._of.get(key)
            if (read is None or read in _AS_IT_IS) and _too_deep(value, MAX_VALUE_DEPTH):
                self.is_cut = True
                continue
            value = (read or _told)(value, depth + 1)
            if value is not _DROP:
                found[key] = value
        return found

    def _one(self, told: Any, depth: int) -> Any:
        if isinstance(told, str) and told.lower() in _WORDS:
            return _WORDS[told.lower()]
        return self.schema(told, depth) if isinstance(told, dict | bool | str) else _DROP

    def _named(self, told: Any, depth: int) -> Any:
        if isinstance(told, list) and not told:
            # An empty object, as PHP writes it.
            return {}
        if not isinstance(told, dict):
            return _DROP
        return {name: self.schema(each, depth) for name, each in told.items()}

    def _listed(self, told: Any, depth: int) -> Any:
        listed = [told] if isinstance(told, dict) else told
        if not isinstance(listed, list) or not listed:
            return _DROP
        return [{"type": "null"} if e is None else self.schema(e, depth) for e in listed]


def _modern(told: dict[str, Any]) -> dict[str, Any]:
    """What older drafts and OpenAPI say in other keywords, in those of today."""
    found = dict(told)
    if isinstance(items := found.get("items"), list):
        del found["items"]
        rest = found.pop("additionalItems", None)
        found |= ({"prefixItems": items} if items else {}) | (
            {} if rest is None else {"items": rest}
        )
    for bound in ("Minimum", "Maximum"):
        if isinstance(strict := found.get(f"exclusive{bound}"), bool):
            del found[f"exclusive{bound}"]
            if strict and bound.lower() in found:
                found[f"exclusive{bound}"] = found.pop(bound.lower())
    if found.get("nullable") is True and isinstance(kind := found.get("type"), str):
        found["type"] = [kind, "null"]
        if isinstance(listed := found.get("enum"), list) and None not in listed:
            found["enum"] = [*listed, None]
    if isinstance(found.get("required"), bool):
        # Draft 3 had it at the property.
        del found["required"]
    if isinstance(named := found.get("properties"), dict):
        said = [
            name for name, e in named.items() if isinstance(e, dict) and e.get("required") is True
        ]
        if said:
            there = found.get("required")
            found["required"] = [*(there if isinstance(there, list) else ()), *said]
    return found


def _told(told: Any, depth: int) -> Any:
    del depth
    return _DROP if told is None else told


def _value(told: Any, depth: int) -> Any:
    del depth
    return told


def _too_deep(told: Any, left: int) -> bool:
    """Whether a value nests deeper than that."""
    if not isinstance(told, dict | list):
        return False
    inner = told.values() if isinstance(told, dict) else told
    return left == 0 or any(_too_deep(each, left - 1) for each in inner)


def _type(told: Any, depth: int) -> Any:
    del depth
    if isinstance(told, list):
        kinds = list(dict.fromkeys(_kind("null" if each is None else each) for each in told))
        return kinds if kinds and all(kinds) else _DROP
    return _kind(told) or _DROP


def _enum(told: Any, depth: int) -> Any:
    del depth
    if isinstance(told, list):
        return told or _DROP
    return [told] if isinstance(told, str | int | float) else _DROP


_AS_IT_IS = (_value, _enum)


def _required(told: Any, depth: int) -> Any:
    del depth
    listed = [told] if isinstance(told, str) else told
    if not isinstance(listed, list):
        return _DROP
    return list(dict.fromkeys(each for each in listed if isinstance(each, str)))


def _flag(told: Any, depth: int) -> Any:
    del depth
    return told if isinstance(told, bool) else _WORDS.get(str(told).lower(), _DROP)


def _text(told: Any, depth: int) -> Any:
    del depth
    return told if isinstance(told, str) else _DROP


def _number(told: Any, depth: int) -> Any:
    del depth
    if isinstance(told, bool):
        return _DROP
    if isinstance(told, int | float):
        return told
    try:
        value = float(told)
    except (TypeError, ValueError, OverflowError):
        return _DROP
    return int(value) if value.is_integer() else value if math.isfinite(value) else _DROP


def _step(told: Any, depth: int) -> Any:
    value = _number(told, depth)
    return _DROP if value is _DROP or value <= 0 else value


def _count(told: Any, depth: int) -> Any:
    value = _number(told, depth)
    if value is _DROP or value < 0 or value != value or value > 2**31:
        return _DROP
    return int(value)


def _with_references(told: Any, root: Any, depth: int) -> Any:
    """The schema without the references that lead nowhere, or only to one another."""
    if depth > 2 * MAX_DEPTH:
        return told
    if isinstance(told, list):
        return [_with_references(each, root, depth + 1) for each in told]
    if not isinstance(told, dict):
        return told
    found = {}
    for key, each in told.items():
        if key in _NAMED and isinstance(each, dict):
            found[key] = {name: _with_references(e, root, depth + 1) for name, e in each.items()}
        else:
            found[key] = each if key in VALUES else _with_references(each, root, depth + 1)
    if isinstance(path := told.get("$ref"), str) and resolved(path, root) is None:
        del found["$ref"]
    return found
