"""What every tool-call format shares: its error, and the check of a call against the offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls.repair import coerced

NAME_KEYS = ("name", "tool", "function")
ARGUMENT_KEYS = ("arguments", "parameters", "input")


class ToolCallError(ValueError):
    """A text that looks like a call is none; it says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was read."""

    name: str
    arguments: dict[str, object]
    repaired: bool = False
    """Whether what the model wrote had to be mended."""
    schema_valid: bool | None = None
    """None if the schema can't be judged by."""


def checked(value: Any, tools: Sequence[ToolSpec], *, repaired: bool = False) -> Call:
    """Take name and arguments out of a decoded call, and fit them to the tool's schema.

    Raises:
        ToolCallError: No name, no arguments object, or a tool that was not offered.
    """
    if not isinstance(value, dict):
        raise ToolCallError("not a JSON object")
    name = next((value[key] for key in NAME_KEYS if key in value), None)
    if not isinstance(name, str):
        raise ToolCallError("no tool name")
    schemas = {tool.name: tool.input_schema for tool in tools}
    if name not in schemas:
        raise ToolCallError(f"tool {name[:64]!r} was not offered")
    arguments: object = next((value[key] for key in ARGUMENT_KEYS if key in value), {})
    if not isinstance(arguments, dict):
        raise ToolCallError("the arguments are no JSON object")
    fitted = coerced(arguments, schemas[name])
    repaired = repaired or fitted != arguments
    return Call(name, fitted, repaired, conforms(fitted, schemas[name]))


def conforms(arguments: Any, schema: dict[str, Any]) -> bool | None:
    """Whether arguments conform to a JSON Schema; None if it is none, or refers to elsewhere."""
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
        # A registry of its own: without one, a `$ref` of a client's could make us fetch a URL.
        return bool(kind(schema, registry=Registry()).is_valid(arguments))
    except (SchemaError, Unresolvable, RecursionError):
        return None
