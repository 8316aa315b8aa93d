"""What every tool-call format shares: its error, and the check of a call against the offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxdeck.server.messages import ToolSpec

NAME_KEYS = ("name", "tool", "function")
ARGUMENT_KEYS = ("arguments", "parameters", "input")


class ToolCallError(ValueError):
    """A text that looks like a call is none; it says why."""


def checked(value: Any, tools: Sequence[ToolSpec]) -> tuple[str, dict[str, object]]:
    """Take name and arguments out of a decoded call.

    Raises:
        ToolCallError: No name, no arguments object, or a tool that was not offered.
    """
    if not isinstance(value, dict):
        raise ToolCallError("not a JSON object")
    name = next((value[key] for key in NAME_KEYS if key in value), None)
    if not isinstance(name, str):
        raise ToolCallError("no tool name")
    if name not in {tool.name for tool in tools}:
        raise ToolCallError(f"tool {name[:64]!r} was not offered")
    arguments: object = next((value[key] for key in ARGUMENT_KEYS if key in value), {})
    if not isinstance(arguments, dict):
        raise ToolCallError("the arguments are no JSON object")
    return name, arguments
