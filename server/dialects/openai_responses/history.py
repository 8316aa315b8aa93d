"""The items of a conversation, read so that no earlier turn is ever refused.

Reasoning, texts and calls of the assistant that follow one another are one turn of the model; so
are the results of its calls. Items of other types become texts, or calls where they are such.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from mlxdeck.server.chat import Block, Message, Text, Thinking, ToolUse
from mlxdeck.server.dialects.history.call_ids import CallIds
from mlxdeck.server.dialects.history.call_inputs import RAW, CallInputs
from mlxdeck.server.dialects.history.foreign_blocks import NO_NAME, told
from mlxdeck.server.dialects.history.message_parts import texts
from mlxdeck.server.dialects.history.new_messages import newest
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.history.tool_results import result
from mlxdeck.server.dialects.json_fields import join, required, shallow, text, typed
from mlxdeck.server.dialects.openai_responses.tools import model_name
from mlxdeck.server.dialects.surrogates import whole_text
from mlxdeck.server.errors import BadRequest

_SYSTEM = ("system", "developer")
_INPUTS = ("arguments", "action", "operation", "input", "parameters")
"""Fields of a call of any type that may hold what it was called with."""
_OUTPUTS = ("output", "result", "results", "outputs", "tools")
_SILENT = frozenset(
    {
        *("item_reference", "additional_tools", "configuration_update"),
        *("compaction_trigger", "mcp_list_tools"),
    }
)
"""Items that say nothing to the model."""
_OURS = "mlxdeck:"
"""Begins the content that this server calls encrypted: thoughts in base64, which hide nothing."""


class ResponsesHistory:
    """Reads the items of one request."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._ids = CallIds()
        self._inputs = CallInputs(notes, "arguments")
        self._messages: list[Message] = []
        self._said: list[Block] = []
        self._results: list[Block] = []

    def read(self, items: list[Any], n_earlier: int) -> list[Message]:
        """Every item, in order; `n_earlier` of them are of earlier requests.

        Raises:
            BadRequest: One is no item.
        """
        last = newest(items, lambda each: str(each.get("type")).endswith("_call_output"))
        for i, item in enumerate(items):
            path = f"input.{i - n_earlier}" if i >= n_earlier else "previous_response_id"
            self._item(shallow(typed(item, dict, path), path), path, last=i == last)
        self._end_turn()
        if self._ids.n_matched:
            self._notes.add("matched", "call_ids")
        return self._messages

    def _item(self, item: dict[str, Any], path: str, *, last: bool) -> None:
        kind = "message" if item.get("type") is None and "role" in item else None
        kind = kind or text(item, "type", path)
        if kind == "message":
            self._message(item, path, last=last)
        elif kind == "reasoning":
            self._thought(item)
        elif kind == "function_call":
            self._call(item, item.get("arguments"))
        elif kind == "custom_tool_call":
            said = item.get("input")
            self._call(item, {RAW: said if isinstance(said, str) else ""})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._result(item, item.get("output"))
        else:
            self._other(item, kind)

    def _message(self, item: dict[str, Any], path: str, *, last: bool) -> None:
        role, at = text(item, "role", path), join(path, "content")
        if role == "assistant":
            said = texts(item.get("content"), at, "assistant", self._notes)
            self._say(*(block for block in said if block.text))
        elif role in _SYSTEM:
            self._end_turn()
            said = texts(item.get("content"), at, "system", self._notes)
            self._messages.append(Message("system", said))
        elif role == "user":
            self._end_turn()
            self._ids.spoke()
            content = required(item, "content", path)
            said = texts(content, at, "user", self._notes, refuse=last)
            self._messages.append(Message("user", said))
        else:
            raise BadRequest(
                join(path, "role"),
                f"expected user, assistant, system or developer, got {role!r:.50}",
            )

    def _thought(self, item: dict[str, Any]) -> None:
        hidden = item.get("encrypted_content")
        thought = open_thought(hidden) if isinstance(hidden, str) else ""
        for name in ("content", "summary"):
            thought = thought or _thought_text(item.get(name))
        if thought:
            self._say(Thinking(thought))
        else:
            self._notes.add("left_out", "reasoning")

    def _call(self, item: dict[str, Any], raw: Any, name: str = "") -> None:
        called, namespace = item.get("name"), item.get("namespace")
        if isinstance(called, str) and called:
            name = model_name(namespace if isinstance(namespace, str) else "", called)
        name = name or NO_NAME
        call_id = self._ids.call(item.get("call_id"), name)
        self._say(ToolUse(call_id, name, self._inputs.read(raw)))

    def _result(self, item: dict[str, Any], output: Any) -> None:
        # A local shell names the call in the id of its output.
        call_id = item.get("call_id") or item.get("id")
        failed = item.get("status") == "failed"
        if isinstance(output, dict) and "type" not in output and "content" in output:
            failed = failed or output.get("success") is False
            output = output["content"]
        self._end_turn(results=True)
        found = self._ids.result(call_id)
        self._results.append(result(found, output, self._notes, is_error=failed))

    def _other(self, item: dict[str, Any], kind: str) -> None:
        """A type that only some clients have: calls, their outputs, and what can be told."""
        is_call, is_output = kind.endswith("_call"), kind.endswith("_output")
        outputs = [item[name] for name in _OUTPUTS if item.get(name)]
        if is_call and isinstance(item.get("call_id"), str) and not outputs:
            self._notes.add("read", kind)
            inputs = (item.get(name) for name in _INPUTS)
            raw = next((each for each in inputs if each), None)
            self._call(item, raw or {}, kind.removesuffix("_call"))
        elif is_output and (item.get("call_id") or kind.endswith("_call_output")):
            self._notes.add("read", kind)
            self._result(item, outputs[0] if outputs else None)
        elif kind not in _SILENT and (retold := told(item, kind, bare=is_call)):
            self._notes.add("told", kind)
            if is_call or item.get("role") == "assistant":
                self._say(Text(f"\n{retold}\n"))
            else:
                self._end_turn()
                self._messages.append(Message("user", (Text(retold),)))
        else:
            self._notes.add("left_out", kind)

    def _say(self, *blocks: Block) -> None:
        if self._results:
            self._end_turn()
        self._said += blocks

    def _end_turn(self, *, results: bool = False) -> None:
        """What follows is of another turn; with `results`, unless results come already."""
        if self._said:
            self._messages.append(Message("assistant", tuple(self._said)))
            self._said = []
        if self._results and not results:
            self._messages.append(Message("user", tuple(self._results)))
            self._results = []


def hide_thought(thought: str) -> str:
    """A thought as the opaque text that clients send back, but don't show."""
    return _OURS + base64.b64encode(whole_text(thought).encode()).decode()


def open_thought(hidden: str) -> str:
    """The thought in such a text; empty if another server made it."""
    if not hidden.startswith(_OURS):
        return ""
    try:
        return base64.b64decode(hidden.removeprefix(_OURS), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _thought_text(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    found = (
        part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        for part in (parts if isinstance(parts, list) else ())
    )
    return "\n\n".join(each for each in found if isinstance(each, str) and each)
