"""Fifty tools with schemas of all kinds, for a model that would not get one of them right alone."""

from __future__ import annotations

from typing import Any

S: dict[str, Any] = {"type": "string", "maxLength": 20}
I: dict[str, Any] = {"type": "integer"}  # noqa: E741
B: dict[str, Any] = {"type": "boolean"}


def obj(required: int = 99, **properties: Any) -> dict[str, Any]:
    """An object of which the first `required` properties must be there."""
    names = [*properties][:required]
    return {"type": "object", "properties": properties, "required": names}


def some(items: Any, low: int = 1, high: int = 3) -> dict[str, Any]:
    """A list of a few."""
    return {"type": "array", "items": items, "minItems": low, "maxItems": high}


def one_of(*values: Any) -> dict[str, Any]:
    """One of a few values."""
    return {"enum": list(values)}


def pattern(expression: str) -> dict[str, Any]:
    """A text of a form."""
    return {"type": "string", "pattern": expression}


def between(low: int, high: int) -> dict[str, Any]:
    """A whole number within bounds."""
    return {"type": "integer", "minimum": low, "maximum": high}


POINT = obj(x=between(0, 99), y=between(0, 99))
REF: dict[str, Any] = {"$defs": {"point": POINT}, **obj(a={"$ref": "#/$defs/point"})}
TREE: dict[str, Any] = {
    "$defs": {"node": obj(1, name=S, child={"anyOf": [{"type": "null"}, POINT]})},
    **obj(root={"$ref": "#/$defs/node"}),
}
SHUT = {**obj(name=S), "additionalProperties": False}
OPEN = {**obj(name=S), "additionalProperties": {"type": "integer"}, "maxProperties": 3}

SCHEMAS: list[dict[str, Any]] = [
    obj(name=S),
    obj(n=I),
    obj(flag=B),
    obj(nothing={"type": "null"}),
    obj(ratio={"type": "number", "minimum": 0, "maximum": 1}),
    obj(size=one_of("small", "medium", "large")),
    obj(size=one_of(1, 2, 3)),
    obj(kind={"const": "fixed"}),
    obj(mixed=one_of("a", 1, None, True)),
    obj(day=pattern(r"^\d{4}-\d{2}-\d{2}$")),
    obj(code=pattern("^[A-Z]{3}$")),
    obj(phone=pattern(r"^\+\d{2} \d{6}$")),
    obj(when={"type": "string", "format": "date"}),
    obj(when={"type": "string", "format": "time"}),
    obj(id={"type": "string", "format": "uuid"}),
    obj(host={"type": "string", "format": "ipv4"}),
    obj(short={"type": "string", "minLength": 2, "maxLength": 5}),
    obj(age=between(0, 120)),
    obj(below=between(-9, -1)),
    obj(tags=some(S)),
    obj(numbers=some(between(0, 9))),
    obj(flags=some(B, 2, 2)),
    obj(matrix=some(some(between(0, 9), 2, 2), 2, 2)),
    obj(points=some(POINT, 1, 2)),
    obj(at=POINT),
    obj(box=obj(low=POINT, high=POINT)),
    obj(deep=obj(deeper=obj(deepest=obj(name=S)))),
    obj(pair={"type": "array", "prefixItems": [S, I], "minItems": 2, "items": False}),
    obj(either={"anyOf": [I, S]}),
    obj(either={"anyOf": [POINT, {"type": "null"}]}),
    obj(either={"type": ["integer", "null"]}),
    obj(either={"type": ["boolean", "integer"]}),
    obj(1, name=S, note=S),
    obj(0, name=S),
    obj(2, a=S, b=I, c=B),
    obj(a=S, b=I, c=B, d=one_of("x", "y")),
    REF,
    TREE,
    SHUT,
    OPEN,
    {"type": "object", "properties": {}},
    {**obj(a=I), "additionalProperties": False, "title": "Titled", "description": "Told."},
    obj(**{"a b": S}),
    obj(**{'quo"ted': S}),
    obj(**{"ünïcode": S}),
    obj(name={**S, "default": "x", "examples": ["y"]}),
    obj(file_path=S, old=S, new=S, replace_all=B),
    obj(command=S, timeout=between(0, 600_000)),
    obj(todos=some(obj(content=S, status=one_of("pending", "done")), 1, 2)),
    obj(query=S, domains=some(pattern(r"^[a-z]{2,8}\.com$"), 0, 2)),
]
