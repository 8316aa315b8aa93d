"""Tools and the choice among them, as both of OpenAI's APIs write them.

Chat completions hold a tool's fields in an object named like its type, responses beside the type.
Clients mix the two up, so either is read everywhere.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import ToolChoice, ToolSpec
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.json_fields import filled_text, join, required, text, typed
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas.known_schemas import known_tool_schema

_CHOICES = ("auto", "none", "required")


def inner_fields(tool: dict[str, Any], kind: str, path: str) -> tuple[dict[str, Any], str]:
    """The object with a tool's fields, and where it is."""
    if kind not in tool and "name" in tool:
        return tool, path
    at = join(path, kind)
    return typed(required(tool, kind, path), dict, at), at


def function_spec(function: dict[str, Any], path: str, notes: Notes) -> ToolSpec:
    """A function; its parameters may be missing."""
    name = filled_text(function, "name", path)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    about = typed(function.get("description") or "", str, join(path, "description"))
    at = join(path, "parameters")
    schema = typed(schema, dict, at)
    read = known_tool_schema(schema, at, lambda: notes.add("left_out", "tools.schema_parts"))
    return ToolSpec(name, about, read)


def tool_choice(
    fields: dict[str, Any], tools: tuple[ToolSpec, ...], elsewhere: set[str], *, name_at: str
) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
    """The choice, and the tools that it leaves.

    `elsewhere` are the names of tools that this server can't run, `name_at` is where the API has
    the name in a choice.
    """
    choice = fields.get("tool_choice")
    parallel = fields.get("parallel_tool_calls")
    several = True if parallel is None else typed(parallel, bool, "parallel_tool_calls")
    auto = ToolChoice("auto", parallel=several)
    if choice is None or choice == "auto":
        return auto, tools
    if choice == "none":
        return ToolChoice("none"), tools
    if isinstance(choice, str) and choice != "required":
        raise BadRequest("tool_choice", f"expected one of {', '.join(_CHOICES)} or a function")
    if not tools and not elsewhere:
        raise BadRequest("tool_choice", "needs tools to choose from")
    required_ = ToolChoice("any", parallel=several) if tools else auto
    if choice == "required":
        return required_, tools
    choice = typed(choice, dict, "tool_choice")
    if choice.get("type") == "allowed_tools":
        mode, names = _allowed(choice)
        for i, name in enumerate(names):
            _known(name, tools, elsewhere, f"tool_choice.tools.{i}")
        left = tuple(tool for tool in tools if tool.name in names)
        return (required_ if mode == "required" and left else auto), left
    wanted = name_of(choice)
    if wanted is None and str(choice.get("type")) in elsewhere:
        return auto, tools
    if wanted is None:
        raise BadRequest(f"tool_choice.{name_at}", "field required")
    _known(wanted, tools, elsewhere, f"tool_choice.{name_at}")
    served = any(tool.name == wanted for tool in tools)
    return (ToolChoice("tool", wanted, several) if served else auto), tools


def _allowed(choice: dict[str, Any]) -> tuple[str, list[str]]:
    """Mode and names of a choice among some tools, in the shape of either of OpenAI's APIs."""
    path = "tool_choice.allowed_tools"
    inner = choice.get("allowed_tools")
    fields = choice if inner is None else typed(inner, dict, path)
    mode = text({"mode": "auto", **fields}, "mode", path)
    if mode not in ("auto", "required"):
        raise BadRequest(join(path, "mode"), f"expected auto or required, got {mode!r:.50}")
    listed = typed(required(fields, "tools", path), list, join(path, "tools"))
    names = []
    for i, each in enumerate(listed):
        at = f"{path}.tools.{i}"
        tool = typed(each, dict, at)
        names.append(name_of(tool) or text(tool, "type", at))
    return mode, names


def name_of(tool: dict[str, Any]) -> str | None:
    """The name in a tool or a choice: in an object named like its type, or beside it."""
    for key in ("function", "custom"):
        if isinstance(inner := tool.get(key), dict) and isinstance(name := inner.get("name"), str):
            return name
    name = tool.get("name")
    return name if isinstance(name, str) else None


def _known(name: str, tools: tuple[ToolSpec, ...], elsewhere: set[str], path: str) -> None:
    if name not in elsewhere and all(tool.name != name for tool in tools):
        raise BadRequest(path, f"tool {name!r:.70} is not among the tools")
