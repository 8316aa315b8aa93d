"""The tools of a request: functions as they are, and custom tools as functions with one text.

A tool in a namespace gets the namespace's name before its own. Tools that only OpenAI's servers
run, as web search, are left out; clients send them by default.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mlxdeck.server.chat import ToolChoice, ToolSpec
from mlxdeck.server.dialects.history.call_inputs import RAW
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.json_fields import filled_text, join, required, text, typed
from mlxdeck.server.dialects.openai_tools import (
    function_spec,
    inner_fields,
    name_of,
    tool_choice,
)
from mlxdeck.server.errors import BadRequest

TOOL_ITEMS = ("additional_tools", "tool_search_output")
"""Items of a conversation that bring tools."""
_SEPARATOR = "__"


@dataclass(frozen=True, slots=True)
class ServedTool:
    """How the client knows a tool."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str = ""


@dataclass(slots=True)
class Tools:
    """All tools of a request, by the names under which the model sees them."""

    notes: Notes
    specs: dict[str, ToolSpec] = field(default_factory=dict)
    served: dict[str, ServedTool] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    """Names of tools that this server can't run."""

    def read(self, fields: dict[str, Any]) -> None:
        """The request's own tools.

        Raises:
            BadRequest: One is malformed, or two have the same name.
        """
        for i, item in enumerate(typed(fields.get("tools") or [], list, "tools")):
            path = f"tools.{i}"
            self._tool(typed(item, dict, path), path, "", None)

    def read_items(self, items: Iterable[Any]) -> None:
        """Tools that came in the course of the conversation; what can't be read is left out."""
        for item in items:
            if isinstance(item, dict) and item.get("type") in TOOL_ITEMS:
                listed = item.get("tools")
                for tool in listed if isinstance(listed, list) else ():
                    try:
                        self._tool(typed(tool, dict, ""), "tools", "", self.specs)
                    except BadRequest:
                        self.notes.add("left_out", "tools.malformed")

    def _tool(
        self, tool: dict[str, Any], path: str, namespace: str, known: dict[str, ToolSpec] | None
    ) -> None:
        """Read one; those in `known` may come again."""
        kind = text(tool, "type", path)
        if kind == "namespace" and not namespace:
            inside = filled_text(tool, "name", path)
            listed = typed(required(tool, "tools", path), list, join(path, "tools"))
            for i, each in enumerate(listed):
                at = f"{path}.tools.{i}"
                self._tool(typed(each, dict, at), at, inside, known)
        elif kind == "function":
            spec = function_spec(*inner_fields(tool, kind, path), self.notes)
            self._add(spec, ServedTool("function", spec.name, namespace), known)
        elif kind == "custom":
            spec = _custom_spec(*inner_fields(tool, kind, path))
            self._add(spec, ServedTool("custom", spec.name, namespace), known)
        else:
            self.elsewhere |= {kind, name_of(tool) or kind}
            self.notes.add("left_out", f"tools.{kind}")

    def _add(self, spec: ToolSpec, tool: ServedTool, known: dict[str, ToolSpec] | None) -> None:
        name = model_name(tool.namespace, tool.name)
        if name in self.specs:
            if known is None:
                raise BadRequest("tools", "tool names must be unique")
            return
        self.specs[name] = replace(spec, name=name)
        self.served[name] = tool

    def choice(self, fields: dict[str, Any]) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
        """The client's choice, and the tools that it leaves.

        Raises:
            BadRequest: It is none, or of a tool that isn't there.
        """
        wanted = fields.get("tool_choice")
        if isinstance(wanted, dict):
            listed = wanted.get("tools")
            if isinstance(listed, list):
                named = [self._named(each) for each in listed]
                fields = {**fields, "tool_choice": {**wanted, "tools": named}}
            else:
                fields = {**fields, "tool_choice": self._named(wanted)}
        return tool_choice(fields, tuple(self.specs.values()), self.elsewhere, name_at="name")

    def _named(self, choice: Any) -> Any:
        """A choice with the name under which the model sees the tool."""
        name = name_of(choice) if isinstance(choice, dict) else None
        if name is None or name in self.specs:
            return choice
        namespace = choice.get("namespace")
        for seen, tool in self.served.items():
            if tool.name == name and namespace in (None, tool.namespace):
                return {"type": "function", "name": seen}
        return choice


def model_name(namespace: str, name: str) -> str:
    """The name under which the model sees a tool."""
    if not namespace:
        return name
    return f"{namespace}{'' if namespace.endswith('_') else _SEPARATOR}{name}"


def _custom_spec(tool: dict[str, Any], path: str) -> ToolSpec:
    """A tool whose input is text, as a function with this text as its argument."""
    name = filled_text(tool, "name", path)
    about = typed(tool.get("description") or "", str, join(path, "description"))
    meaning = "The tool's input, as plain text."
    at = join(path, "format")
    form = typed(tool.get("format") or {}, dict, at)
    if form.get("type") == "grammar":
        # Both shapes: beside the type here, in an object of that name in chat completions.
        grammar, at = inner_fields(form, "grammar", at) if "grammar" in form else (form, at)
        syntax = typed(grammar.get("syntax") or "lark", str, join(at, "syntax"))
        definition = typed(grammar.get("definition") or "", str, join(at, "definition"))
        meaning += f" It has to follow this {syntax[:20]} grammar:\n{definition}"
    schema = {
        "type": "object",
        "properties": {RAW: {"type": "string", "description": meaning}},
        "required": [RAW],
        "additionalProperties": False,
    }
    return ToolSpec(name, about, schema)
