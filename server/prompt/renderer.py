"""A canonical request through the chat template into token ids.

`Renderer` knows how to say a conversation to templates that lack roles for parts of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlxdeck.server.engine import Tokenizer
from mlxdeck.server.errors import BadRequest, PromptTooLong
from mlxdeck.server.messages import (
    ChatRequest,
    Message,
    Text,
    Thinking,
    ToolResult,
    ToolSpec,
    ToolUse,
)
from mlxdeck.server.prompt.canonical import ordered_schema
from mlxdeck.server.prompt.layout import Layout, lay_out

Wire = dict[str, Any]
"""A message or tool in the shape that chat templates read, which is OpenAI's."""


class ToolWriting(Protocol):
    """How tools are spelled out in text, for a template that has no place for them."""

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """What the system prompt says about the tools."""

    def write_call(self, call: ToolUse) -> str:
        """An earlier call, as the model would have written it."""

    def write_result(self, result: ToolResult) -> str:
        """What a call returned, as a part of a user turn."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model reads it."""

    tokens: list[int]
    max_tokens: int
    """Room for the answer: what the client asked for, or what the window leaves."""
    in_thinking: bool
    """Whether the template has opened a thinking block that the answer continues."""
    begun: str
    """The beginning of the answer, where the client wrote it; no part of what is sent back."""
    layout: Layout
    """Where the parts of the request lie among the tokens."""


class Renderer:
    """Turns canonical requests into tokens. Used from the prompt thread only."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        writing: ToolWriting,
        context_tokens: int,
        max_output_tokens: int = 0,
        *,
        ordered: bool = True,
    ) -> None:
        """`ordered` puts the keys of tool schemas in one order."""
        self._ordered = ordered
        self._tokenizer = tokenizer
        self._writing = writing
        self._context_tokens = context_tokens
        self._max_output_tokens = max_output_tokens or context_tokens

    def render(self, request: ChatRequest) -> Prompt:
        """Apply the template and count.

        Raises:
            PromptTooLong: It leaves no room for a single token of answer.
            BadRequest: The model's template can't express this conversation.
        """
        text = self.text(request)
        tokens, ends = self._tokenizer.encode_with_ends(text)
        limit_tokens = self._context_tokens - 1
        if len(tokens) > limit_tokens:
            raise PromptTooLong(len(tokens), limit_tokens)
        room_tokens = min(self._context_tokens - len(tokens), self._max_output_tokens)
        think_start = self._tokenizer.traits.think_start
        in_thinking = bool(think_start) and text.rstrip().endswith(think_start)
        max_tokens = min(request.sampling.max_tokens, room_tokens)
        return Prompt(
            tokens, max_tokens, in_thinking, _begun(request), lay_out(request, text, ends)
        )

    def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt has, also if it is too long."""
        return len(self._tokenizer.encode(self.text(request)))

    def text(self, request: ChatRequest) -> str:
        """The prompt as text, ending where the answer begins.

        A last message of the assistant's is the beginning of that answer.
        """
        traits = self._tokenizer.traits
        turns = list(request.messages)
        begun = _begun(request)
        if turns[-1].role == "assistant":
            turns.pop()
        system = list(request.system)
        while turns and turns[0].role == "system":
            system += _texts(turns.pop(0))
        offered = [self._tool(tool) for tool in request.tools]
        if offered and not traits.has_tools:
            system.append(self._writing.describe(offered))
        messages = self._turns(turns, native=traits.has_tools)
        tools = [_wire_tool(tool) for tool in offered] if traits.has_tools else None
        options = {} if request.thinking is None else {"enable_thinking": request.thinking}
        return self._apply("\n\n".join(system), messages, tools or None, options) + begun

    def _tool(self, tool: ToolSpec) -> ToolSpec:
        if not self._ordered:
            return tool
        return ToolSpec(tool.name, tool.description, ordered_schema(tool.input_schema))

    def _apply(
        self,
        system: str,
        messages: list[Wire],
        tools: list[Wire] | None,
        options: dict[str, Any],
    ) -> str:
        """Try a system message first, then, for templates without one, the first user turn."""
        spelled = [{"role": "system", "content": system}, *messages] if system else messages
        try:
            return self._tokenizer.render(spelled, tools, options)
        except ValueError as error:
            if not system:
                raise BadRequest("messages", str(error)) from error
        folded = _merged([{"role": "user", "content": system}, *messages])
        try:
            return self._tokenizer.render(folded, tools, options)
        except ValueError as error:
            raise BadRequest("messages", str(error)) from error

    def _turns(self, turns: Iterable[Message], *, native: bool) -> list[Wire]:
        messages: list[Wire] = []
        for turn in turns:
            if turn.role == "assistant":
                messages.append(self._assistant(turn, native=native))
            elif turn.role == "system":
                # In its place, not hoisted: moving it up would change the whole prompt after it.
                text = "\n".join(_texts(turn)).strip()
                reminder = f"<system-reminder>\n{text}\n</system-reminder>"
                messages.append({"role": "user", "content": reminder})
            else:
                messages += self._user(turn, native=native)
        return _merged(messages)

    def _assistant(self, turn: Message, *, native: bool) -> Wire:
        calls = [block for block in turn.blocks if isinstance(block, ToolUse)]
        thoughts = [block.text for block in turn.blocks if isinstance(block, Thinking)]
        parts = ["".join(_texts(turn))]
        message: Wire = {"role": "assistant"}
        if thoughts and self._tokenizer.traits.has_thinking:
            message["reasoning_content"] = "\n".join(thoughts)
        if calls and native:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.input},
                }
                for call in calls
            ]
        else:
            parts += [self._writing.write_call(call) for call in calls]
        message["content"] = "\n".join(part for part in parts if part)
        return message

    def _user(self, turn: Message, *, native: bool) -> list[Wire]:
        messages: list[Wire] = []
        for block in turn.blocks:
            if isinstance(block, ToolResult) and native:
                result = {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.text}
                messages.append(result)
            elif isinstance(block, ToolResult):
                content = self._writing.write_result(block)
                messages.append({"role": "user", "content": content})
            elif isinstance(block, Text) and block.text:
                messages.append({"role": "user", "content": block.text})
        return messages


def _merged(messages: Iterable[Wire]) -> list[Wire]:
    """Join user turns that follow one another: many templates insist on alternation."""
    merged: list[Wire] = []
    for message in messages:
        if merged and message["role"] == merged[-1]["role"] == "user":
            content = f"{merged[-1]['content']}\n\n{message['content']}"
            merged[-1] = {"role": "user", "content": content}
        else:
            merged.append(message)
    return merged


def _begun(request: ChatRequest) -> str:
    """What a last assistant message has already said; templates can't end in a space."""
    last = request.messages[-1]
    return "".join(_texts(last)).rstrip() if last.role == "assistant" else ""


def _texts(message: Message) -> list[str]:
    return [block.text for block in message.blocks if isinstance(block, Text)]


def _wire_tool(tool: ToolSpec) -> Wire:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.input_schema,
        },
    }
