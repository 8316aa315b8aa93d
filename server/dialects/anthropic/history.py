"""The messages of Anthropic's Messages API, read so that no earlier turn is ever refused.

Content that the model can't take becomes text or is left out. This happens here and not in the
renderer, because only a dialect knows its blocks. A picture or document in a new message of the
user is noted as unsupported, because the user should know if the model doesn't see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdeck.server.chat import Block, Message, Role, Text, Thinking, ToolResult, ToolUse
from mlxdeck.server.dialects.history.call_ids import CallIds
from mlxdeck.server.dialects.history.call_inputs import CallInputs
from mlxdeck.server.dialects.history.foreign_blocks import NO_NAME, told
from mlxdeck.server.dialects.history.media import Media, media
from mlxdeck.server.dialects.history.new_messages import newest
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.history.tool_results import result
from mlxdeck.server.dialects.json_fields import join, required, text, typed
from mlxdeck.server.errors import BadRequest

ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


class AnthropicHistory:
    """Reads the messages of one request."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._ids = CallIds()
        self._inputs = CallInputs(notes, "tool_use.input")

    def read(self, messages: list[Any]) -> tuple[Message, ...]:
        """Every message, in order.

        Raises:
            BadRequest: One is no message.
        """
        last = newest(messages, _has_result)
        found = tuple(
            self._message(each, f"messages.{i}", last=i == last) for i, each in enumerate(messages)
        )
        if self._ids.n_matched:
            self._notes.add("matched", "call_ids")
        return found

    def _message(self, value: Any, path: str, *, last: bool) -> Message:
        fields = typed(value, dict, path)
        name = text(fields, "role", path)
        if name not in ROLES:
            raise BadRequest(
                join(path, "role"), f"expected one of {', '.join(ROLES)}, got {name!r:.50}"
            )
        role = ROLES[name]
        content, at = required(fields, "content", path), join(path, "content")
        if isinstance(content, str):
            blocks: tuple[Block, ...] = (Text(content),)
        elif content is None and role == "assistant":
            blocks = ()
        else:
            read = (
                self._block(typed(each, dict, f"{at}.{i}"), f"{at}.{i}", role, last=last)
                for i, each in enumerate(typed(content, list, at))
            )
            blocks = tuple(block for block in read if block is not None)
        if role == "user" and any(isinstance(block, Text) for block in blocks):
            self._ids.spoke()
        return Message(role, blocks)

    def _block(self, block: dict[str, Any], path: str, role: Role, *, last: bool) -> Block | None:
        kind = text(block, "type", path)
        if kind == "text":
            return Text(_said(block, path))
        if kind == "tool_result" and role == "user":
            return self._result(block)
        if kind == "tool_use" and role == "assistant":
            return self._call(block)
        if kind == "thinking" and role == "assistant":
            thought = block.get("thinking")
            return Thinking(thought) if isinstance(thought, str) and thought else None
        if kind == "redacted_thinking" and role == "assistant":
            self._notes.add("left_out", kind)
            return None
        if (found := media(block)) is not None:
            return self._media(found, kind, path, refuse=last and role == "user")
        retold = told(block, kind, bare=role == "user")
        self._notes.add("told" if retold else "left_out", kind)
        # Texts of the assistant's are put together without anything between them.
        return Text(f"\n{retold}\n" if role == "assistant" else retold) if retold else None

    def _media(self, found: Media | str, kind: str, path: str, *, refuse: bool) -> Text:
        if isinstance(found, str):
            self._notes.add("read", kind)
            return Text(found)
        if refuse:
            self._notes.refuse(found.refusal(join(path, f"{kind}.source")))
        self._notes.add("replaced", kind)
        return found.text

    def _call(self, block: dict[str, Any]) -> ToolUse:
        name = block.get("name")
        name = name if isinstance(name, str) and name else NO_NAME
        arguments = self._inputs.read(block.get("input"))
        return ToolUse(self._ids.call(block.get("id"), name), name, arguments)

    def _result(self, block: dict[str, Any]) -> ToolResult:
        call_id = self._ids.result(block.get("tool_use_id"))
        is_error = bool(block.get("is_error"))
        return result(call_id, block.get("content"), self._notes, is_error=is_error)


def _has_result(message: dict[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else ()
    return any(isinstance(each, dict) and each.get("type") == "tool_result" for each in blocks)


def _said(block: dict[str, Any], path: str) -> str:
    """The text of a text block; null is what some servers write for none."""
    return "" if required(block, "text", path) is None else text(block, "text", path)
