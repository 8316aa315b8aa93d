"""A canonical request in the shape that chat templates read, which is OpenAI's: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.canonicalize import ordered_schema
from mlxdeck.server.chat import ChatRequest, Message, Text, Thinking, ToolResult, ToolSpec, ToolUse

Wire = dict[str, Any]
"""A message or tool as a template gets it."""

EMPTY_TURNS_KEPT = "empty_turns_kept"
TOOLS_AS_TEXT = "tools_as_text"
OPTIONS_LEFT_OUT = "options_left_out"
SCHEMAS_FILLED = "schemas_filled"
ONE_TURN = "one_turn"
"""The regroupings that change how a request is put, not the messages that come of it."""


class ToolWriting(Protocol):
    """How tools are spelled out in text, for a template that has no place for them."""

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """Description of the tools in the system prompt."""

    def write_call(self, call: ToolUse, tool: ToolSpec | None = None) -> str:
        """An earlier call in the model's format; its tool decides which values are texts."""

    def write_result(self, result: ToolResult) -> str:
        """A call's result, as a part of a user turn."""


@dataclass(frozen=True, slots=True)
class TemplateMessages:
    """All that a template is given."""

    messages: list[Wire]
    """The system prompt is the first of them, if there is one."""
    tools: list[Wire] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def put(
    request: ChatRequest,
    traits: TemplateTraits,
    writing: ToolWriting,
    regroupings: Collection[str] = (),
    *,
    ordered: bool = True,
) -> TemplateMessages:
    """Put a request to a template; a last message of the assistant's is left out.

    `ordered` puts the keys of tool schemas in one order.
    """
    native = traits.has_tools and not {TOOLS_AS_TEXT, ONE_TURN} & {*regroupings}
    turns = list(request.messages)
    if turns[-1].role == "assistant":
        turns.pop()
    system = list(request.system)
    while turns and turns[0].role == "system":
        system += texts(turns.pop(0))
    offered = [_ordered(tool) for tool in request.tools] if ordered else list(request.tools)
    if offered and not native:
        system.append(writing.describe(offered))
    named = {tool.name: tool for tool in request.tools}
    said = _Turns(traits, writing, native, EMPTY_TURNS_KEPT in regroupings, named).of(turns)
    if system := [text for text in ("\n\n".join(system),) if text]:
        said.insert(0, {"role": "system", "content": system[0]})
    # No template takes a conversation of nothing, and an empty text says as much.
    said = said or [{"role": "user", "content": ""}]
    filled = SCHEMAS_FILLED in regroupings
    tools = [_wire_tool(tool, filled=filled) for tool in offered] if offered and native else None
    options = {} if OPTIONS_LEFT_OUT in regroupings else _options(request)
    return TemplateMessages(said, tools, options)


def begun(request: ChatRequest) -> str:
    """The beginning of the answer in a last assistant message; templates can't end in a space."""
    last = request.messages[-1]
    return "".join(texts(last)).rstrip() if last.role == "assistant" else ""


def texts(message: Message) -> list[str]:
    """The texts of a message."""
    return [block.text for block in message.blocks if isinstance(block, Text)]


def merged(messages: Iterable[Wire]) -> list[Wire]:
    """Join user turns that follow one another: many templates insist on alternation."""
    joined: list[Wire] = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] == "user":
            content = "\n\n".join(m["content"] for m in (joined[-1], message) if m["content"])
            joined[-1] = {"role": "user", "content": content}
        else:
            joined.append(message)
    return joined


def _options(request: ChatRequest) -> dict[str, Any]:
    """Variables for the template beside the conversation; named options come last."""
    options: dict[str, Any] = {}
    if request.thinking is not None:
        options["enable_thinking"] = request.thinking
    if request.effort:
        options["reasoning_effort"] = request.effort
    return options | request.template_options


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turns as messages."""

    traits: TemplateTraits
    writing: ToolWriting
    native: bool
    keeps_empty: bool
    tools: Mapping[str, ToolSpec]

    def of(self, turns: Iterable[Message]) -> list[Wire]:
        messages: list[Wire] = []
        for turn in turns:
            if turn.role == "assistant":
                messages.append(self._assistant(turn))
            elif turn.role == "system":
                # In its place, not hoisted: moving it up would change the whole prompt after it.
                text = "\n".join(texts(turn)).strip()
                reminder = f"<system-reminder>\n{text}\n</system-reminder>"
                messages.append({"role": "user", "content": reminder})
            else:
                messages += self._user(turn)
        return merged(messages)

    def _assistant(self, turn: Message) -> Wire:
        calls = [block for block in turn.blocks if isinstance(block, ToolUse)]
        thoughts = [block.text for block in turn.blocks if isinstance(block, Thinking)]
        parts = ["".join(texts(turn))]
        message: Wire = {"role": "assistant"}
        if thoughts and self.traits.has_thinking:
            message["reasoning_content"] = "\n".join(thoughts)
        if calls and self.native:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.input},
                }
                for call in calls
            ]
        else:
            parts += [self.writing.write_call(call, self.tools.get(call.name)) for call in calls]
        message["content"] = "\n".join(part for part in parts if part)
        return message

    def _user(self, turn: Message) -> list[Wire]:
        messages: list[Wire] = []
        for block in turn.blocks:
            if isinstance(block, ToolResult) and self.native:
                result = {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.text}
                messages.append(result)
            elif isinstance(block, ToolResult):
                content = self.writing.write_result(block)
                messages.append({"role": "user", "content": content})
            elif isinstance(block, Text) and block.text:
                messages.append({"role": "user", "content": block.text})
        if not messages and self.keeps_empty:
            messages.append({"role": "user", "content": ""})
        return messages


def _ordered(tool: ToolSpec) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, ordered_schema(tool.input_schema))


def _wire_tool(tool: ToolSpec, *, filled: bool) -> Wire:
    description, parameters = tool.description, tool.input_schema
    if filled:
        description, parameters = description or tool.name, _filled(parameters)
    return {
        "type": "function",
        "function": {"name": tool.name, "description": description, "parameters": parameters},
    }


def _filled(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what templates read of one without asking whether it is there."""
    told = schema.get("properties")
    properties = {
        name: {"type": "any", "description": name, **about} if isinstance(about, dict) else about
        for name, about in (told.items() if isinstance(told, dict) else ())
    }
    return {"type": "object", "required": [], **schema, "properties": properties}
