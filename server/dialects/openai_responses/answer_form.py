"""What of a request decides how its answer is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.server.dialects.base import StoredAnswer
from mlxdeck.server.dialects.client_names import ClientNames
from mlxdeck.server.dialects.json_fields import too_deep
from mlxdeck.server.dialects.openai_responses.tools import ServedTool
from mlxdeck.server.dialects.sse import to_json

ENCRYPTED = "reasoning.encrypted_content"
"""What a client includes that keeps the conversation itself, thoughts included."""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """Made while a request is read."""

    fields: dict[str, Any] = field(default_factory=dict)
    """The request's body."""
    names: ClientNames = ClientNames()
    tools: Mapping[str, ServedTool] = field(default_factory=dict)
    """By the names under which the model sees them."""
    items: tuple[Any, ...] = ()
    """What the request adds to the conversation."""
    previous: StoredAnswer | None = None
    """The answer that the request continues."""
    echo: bytes = b"{}"
    """The fields that each answer repeats; made once, because tools may be long."""

    @property
    def summarized(self) -> bool:
        """Whether the client wants to read what the model thinks as a summary."""
        reasoning = self.fields.get("reasoning") or {}
        return any(reasoning.get(name) for name in ("summary", "generate_summary"))

    @property
    def encrypted(self) -> bool:
        """Whether thoughts come with what a client can send back later."""
        return ENCRYPTED in (self.fields.get("include") or ())

    @property
    def is_stored(self) -> bool:
        """Whether later requests may refer to the answer."""
        return self.fields.get("store") is not False


def echoed(fields: Mapping[str, Any]) -> bytes:
    """A request's own fields as JSON, as each answer repeats them."""
    parallel, reasoning, text = (
        fields.get(name) for name in ("parallel_tool_calls", "reasoning", "text")
    )
    return to_json(
        {
            "background": False,
            "instructions": fields.get("instructions"),
            "max_output_tokens": fields.get("max_output_tokens"),
            "max_tool_calls": fields.get("max_tool_calls"),
            "metadata": fields.get("metadata") or {},
            "parallel_tool_calls": True if parallel is None else parallel,
            "previous_response_id": fields.get("previous_response_id"),
            "prompt_cache_key": fields.get("prompt_cache_key"),
            "reasoning": {"effort": None, "summary": None, **_shallow(reasoning)},
            "safety_identifier": fields.get("safety_identifier"),
            "service_tier": "default",
            "store": fields.get("store") is not False,
            "temperature": fields.get("temperature"),
            "text": {"format": {"type": "text"}, **_shallow(text)},
            "tool_choice": _choice(fields.get("tool_choice")),
            "tools": [tool for tool in fields.get("tools") or () if not too_deep(tool)],
            "top_logprobs": 0,
            "top_p": fields.get("top_p"),
            "truncation": fields.get("truncation") or "disabled",
            "user": fields.get("user"),
        }
    )


def _shallow(value: Any) -> dict[str, Any]:
    """An object that can be written again; without fields that are null."""
    if not isinstance(value, dict) or too_deep(value):
        return {}
    return {key: each for key, each in value.items() if each is not None}


def _choice(choice: Any) -> Any:
    return choice if isinstance(choice, str) else _shallow(choice) or "auto"
