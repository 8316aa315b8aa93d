"""The messages of OpenAI's chat completions, read so that no earlier turn is ever refused.

As in `anthropic_history`, with two differences. Arguments are text, as the model wrote them, and
there are several forms of tool calls.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import Block, Message, Role, Text, Thinking, ToolResult, ToolUse
from mlxdeck.server.dialects.history.call_ids import CallIds
from mlxdeck.server.dialects.history.call_inputs import RAW, CallInputs
from mlxdeck.server.dialects.history.foreign_blocks import NO_NAME, told
from mlxdeck.server.dialects.history.message_parts import texts
from mlxdeck.server.dialects.history.new_messages import newest
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.history.tool_results import result
from mlxdeck.server.dialects.json_fields import join, required, text, typed
from mlxdeck.server.errors import BadRequest

_SYSTEM = ("system", "developer")
_RESULTS = ("tool", "function")
_THOUGHTS = ("reasoning_content", "reasoning")


class OpenAIHistory:
    """Reads the messages of one request."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._ids = CallIds()
        self._inputs = CallInputs(notes, "arguments")

    def read(self, messages: list[Any]) -> list[Message]:
        """Every message, in order.

        Raises:
            BadRequest: One is no message.
        """
        last = newest(messages, lambda each: each.get("role") in _RESULTS)
        found: list[Message] = []
        results: list[Block] = []
        for i, item in enumerate(messages):
            path = f"messages.{i}"
            fields = typed(item, dict, path)
            role = text(fields, "role", path)
            if role in _RESULTS:
                # The results of one turn's calls are one turn.
                results.append(self._result(fields))
                continue
            if results:
                found.append(Message("user", tuple(results)))
                results = []
            found.append(self._message(fields, role, path, last=i == last))
        if results:
            found.append(Message("user", tuple(results)))
        if self._ids.n_matched:
            self._notes.add("matched", "call_ids")
        return found

    def _message(self, fields: dict[str, Any], role: str, path: str, *, last: bool) -> Message:
        at = join(path, "content")
        if role in _SYSTEM:
            return Message("system", self._texts(fields.get("content"), at, "system"))
        if role == "user":
            self._ids.spoke()
            content = required(fields, "content", path)
            return Message("user", self._texts(content, at, "user", refuse=last))
        if role == "assistant":
            return Message("assistant", self._said(fields, path))
        raise BadRequest(
            join(path, "role"),
            f"expected system, developer, user, assistant or tool, got {role!r:.50}",
        )

    def _texts(
        self, content: Any, path: str, role: Role, *, refuse: bool = False
    ) -> tuple[Text, ...]:
        return texts(content, path, role, self._notes, refuse=refuse)

    def _said(self, fields: dict[str, Any], path: str) -> tuple[Block, ...]:
        blocks: list[Block] = []
        thoughts = (fields.get(name) for name in _THOUGHTS)
        if thought := next((each for each in thoughts if isinstance(each, str) and each), ""):
            blocks.append(Thinking(thought))
        content = fields.get("content")
        said = self._texts(content, join(path, "content"), "assistant")
        refusal = fields.get("refusal")
        if isinstance(refusal, str):
            said = (*said, Text(refusal))
        blocks += [block for block in said if block.text]
        at = join(path, "tool_calls")
        calls = typed(fields.get("tool_calls") or [], list, at)
        for i, item in enumerate(calls):
            blocks.append(self._call(typed(item, dict, f"{at}.{i}"), f"{at}.{i}"))
        if isinstance(legacy := fields.get("function_call"), dict) and not calls:
            blocks.append(self._made(None, legacy.get("name"), legacy.get("arguments")))
        return tuple(blocks)

    def _call(self, call: dict[str, Any], path: str) -> Block:
        """A call in any of the shapes in which clients send it back."""
        call_id = call.get("id") or call.get("call_id")
        custom = call.get("custom")
        if isinstance(custom, dict):
            said = custom.get("input")
            whole = {RAW: said if isinstance(said, str) else ""}
            return self._made(call_id, custom.get("name"), whole)
        function = call if "function" not in call and "name" in call else call.get("function")
        if function is None:
            kind = call.get("type")
            if not isinstance(kind, str) or kind == "function":
                raise BadRequest(join(path, "function"), "field required")
            # Something that another server ran.
            self._notes.add("told", kind)
            return Text(f"\n{told(call, kind, bare=True)}\n")
        fields = typed(function, dict, join(path, "function"))
        return self._made(call_id, fields.get("name"), fields.get("arguments"))

    def _made(self, call_id: Any, name: Any, raw: Any) -> ToolUse:
        name = name if isinstance(name, str) and name else NO_NAME
        return ToolUse(self._ids.call(call_id, name), name, self._inputs.read(raw))

    def _result(self, fields: dict[str, Any]) -> ToolResult:
        call_id, name = fields.get("tool_call_id"), ""
        if not call_id:
            # As in the API before there were ids, and in Ollama's.
            names = (fields.get(key) for key in ("name", "tool_name"))
            name = next((each for each in names if isinstance(each, str)), "")
        call_id = self._ids.result(call_id, name)
        return result(call_id, fields.get("content"), self._notes)
