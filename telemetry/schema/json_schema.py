"""The schema of a telemetry line, for programs that are not this one: exported by `make schema`."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec

from mlxdeck.telemetry.schema.codec import Envelope
from mlxdeck.telemetry.schema.events import EVENTS, SCHEMA_VERSION


def json_schema() -> dict[str, Any]:
    """The schema of a line: the common fields, and the attributes of each known event.

    Unknown events are valid: a later version may write them.
    """
    kinds: list[type[msgspec.Struct]] = [Envelope, *EVENTS.values()]
    refs, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for kind in kinds:
        properties = definitions[kind.__name__]["properties"]
        described = field_texts(kind)
        for field in msgspec.structs.fields(kind):
            properties[field.encode_name] |= {"description": described[field.name]}
    envelope = definitions[Envelope.__name__]["properties"]
    envelope["v"] |= {"const": SCHEMA_VERSION}
    envelope["attrs"] |= {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"mlxdeck telemetry line, version {SCHEMA_VERSION}",
        "allOf": [refs[0], *map(_branch, EVENTS.values(), refs[1:])],
        "$defs": definitions,
    }


def _branch(kind: Any, ref: dict[str, Any]) -> dict[str, Any]:
    return {
        "if": {"properties": {"event": {"const": kind.NAME}}, "required": ["event"]},
        "then": {"properties": {"attrs": ref}},
    }


def field_texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring below each field of a class, in one line."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
