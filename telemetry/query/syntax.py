"""A filter as a tree, and as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mlxdeck.telemetry.query.lexer import Value


@dataclass(frozen=True, slots=True)
class Term:
    """A field, and the values of which one has to fit; the empty field is a word alone."""

    name: str
    sign: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Everything else."""

    inner: Node


@dataclass(frozen=True, slots=True)
class And:
    """What all parts match."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """What any part matches."""

    parts: tuple[Node, ...]


Node: TypeAlias = "Term | Not | And | Or"


def joined(kind: type[And | Or], parts: list[Node]) -> Node | None:
    """Parts as one node; parts of the same kind are taken apart first. None of no parts."""
    flat: list[Node] = []
    for part in parts:
        flat += part.parts if isinstance(part, kind) else [part]
    return kind(tuple(flat)) if len(flat) > 1 else flat[0] if flat else None


def terms(node: Node | None) -> Iterator[Term]:
    """All terms, from left to right."""
    if isinstance(node, Term):
        yield node
    elif isinstance(node, Not):
        yield from terms(node.inner)
    elif node is not None:
        for part in node.parts:
            yield from terms(part)


def written(node: Node | None) -> str:
    """The tree as text; parsed, it is the same tree."""
    if node is None:
        return ""
    if isinstance(node, Term):
        values = "|".join(map(str, node.values))
        return f"{node.name}{node.sign}{values}" if node.name else values
    if isinstance(node, Not):
        return f"not {_inner(node.inner, And | Or)}"
    if isinstance(node, Or):
        return " or ".join(written(part) for part in node.parts)
    return " ".join(_inner(part, Or) for part in node.parts)


def _inner(node: Node, weaker: object) -> str:
    text = written(node)
    return f"({text})" if isinstance(node, weaker) else text  # type: ignore[arg-type]
