"""A conversation that a local model took part in, as Anthropic's API takes it. Pure.

The API verifies the signature of each thought, and only it can sign one. With `thinking` enabled,
a turn that goes on after a tool's result has to begin with a thought
(https://docs.claude.com/en/docs/build-with-claude/extended-thinking). It takes no blank text.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.dialects.anthropic.whole_message import SIGNATURE
from mlxdeck.server.dialects.history.notes import Notes

_THOUGHTS = ("thinking", "redacted_thinking")


def strict_history(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body without what the API would refuse, and notes of that; the same if there is none."""
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return fields, ()
    notes = Notes()
    kept = [_message(message, notes) for message in messages]
    left = [message for message in kept if message is not None]
    changed = {**fields, "messages": left} if notes.all() else dict(fields)
    thinking = fields.get("thinking")
    is_enabled = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    if is_enabled and _goes_on_without_thought(left):
        notes.add("left_out", "thinking_enabled")
        del changed["thinking"]
        _without_thought_edits(changed)
    told = notes.all()
    return (changed, told) if told else (fields, ())


def _message(message: Any, notes: Notes) -> Any:
    """A message as it may be sent; None for one of the assistant's that had nothing else."""
    content = _content(message) if _role(message) == "assistant" else []
    if not content:
        return message
    left = [block for block in content if not _is_refused(block, notes)]
    if len(left) == len(content):
        return message
    return {**message, "content": left} if left else None


def _is_refused(block: Any, notes: Notes) -> bool:
    if not isinstance(block, dict):
        return False
    kind = block.get("type")
    if kind == "thinking":
        signature = block.get("signature")
        is_refused = not isinstance(signature, str) or signature in ("", SIGNATURE)
    else:
        text = block.get("text")
        is_refused = kind == "text" and isinstance(text, str) and not text.strip()
    if is_refused:
        notes.add("left_out", str(kind))
    return is_refused


def _goes_on_without_thought(messages: list[Any]) -> bool:
    """Whether the last turn of the assistant waits for results, and begins with no thought."""
    if not messages or not any(_kind(block) == "tool_result" for block in _content(messages[-1])):
        return False
    turns = [message for message in messages if _role(message) == "assistant"]
    content = _content(turns[-1]) if turns else []
    return bool(content) and _kind(content[0]) not in _THOUGHTS


def _without_thought_edits(fields: dict[str, Any]) -> None:
    """Leave out context edits that need thinking."""
    management = fields.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    if isinstance(management, dict) and isinstance(edits, list):
        left = [each for each in edits if not _kind(each).startswith("clear_thinking")]
        fields["context_management"] = {**management, "edits": left}
        if not left:
            del fields["context_management"]


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _content(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else []


def _kind(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, dict) else ""
