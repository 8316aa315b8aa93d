"""Anthropic's Messages API: `POST /v1/messages` and `/v1/messages/count_tokens`.

Format: https://docs.anthropic.com/en/api/messages and .../messages-streaming. What has no meaning
for a local model (cache marks, metadata, context management, effort, betas) is dropped here, so
that it reaches neither the prompt nor the key of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from mlxdeck.server.dialects.anthropic_stream import AnthropicEncoder, error_body
from mlxdeck.server.dialects.fields import count, decode_object, join, required, text, typed
from mlxdeck.server.dialects.sampling import sampling
from mlxdeck.server.errors import BadRequest, ServerError
from mlxdeck.server.messages import (
    Block,
    ChatRequest,
    Message,
    Role,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    ToolResult,
    ToolSpec,
    ToolUse,
)

ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_SESSION = re.compile(r"session_([0-9a-fA-F-]{36})")
_THINKING = {"enabled": True, "adaptive": True, "disabled": False}
_TEXT_ONLY = "this model reads text only, so it can't take"


class Anthropic:
    """The dialect that Claude Code speaks."""

    name = "anthropic"
    path = "/v1/messages"
    count_path = "/v1/messages/count_tokens"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        fields = decode_object(body)
        required(fields, "max_tokens", "")
        return _request(fields, headers)

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for a count, which has no use for a token limit."""
        return _request({"max_tokens": 1, **decode_object(body)}, headers)

    def count(self, n_tokens: int) -> bytes:
        """The body that tells a count."""
        return msgspec.json.encode({"input_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> AnthropicEncoder:
        """A writer that answers under the model's name that the client asked for."""
        return AnthropicEncoder(message_id, request.model)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body."""
        return msgspec.json.encode({**error_body(error), "request_id": request_id})


def _request(fields: dict[str, Any], headers: Mapping[str, str]) -> ChatRequest:
    messages = typed(required(fields, "messages", ""), list, "messages")
    if not messages:
        raise BadRequest("messages", "at least one message is required")
    tools, server_tools = _tools(fields)
    return ChatRequest(
        model=text(fields, "model", ""),
        system=_system(fields.get("system")),
        messages=tuple(_message(item, f"messages.{i}") for i, item in enumerate(messages)),
        sampling=_sampling(fields),
        tools=tools,
        tool_choice=_tool_choice(fields, {tool.name for tool in tools} | server_tools),
        stream=typed(fields.get("stream") or False, bool, "stream"),
        thinking=_thinking(fields.get("thinking")),
        thinking_tokens=_thinking_tokens(fields.get("thinking")),
        answer_schema=_answer_schema(fields),
        session_id=_session(fields.get("metadata"), headers),
    )


def _system(value: Any) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return (value,) if value else ()
    blocks = typed(value, list, "system")
    return tuple(_text_block(block, f"system.{i}") for i, block in enumerate(blocks))


def _text_block(value: Any, path: str) -> str:
    block = typed(value, dict, path)
    if text(block, "type", path) != "text":
        raise BadRequest(join(path, "type"), "expected 'text'")
    return text(block, "text", path)


def _message(value: Any, path: str) -> Message:
    fields = typed(value, dict, path)
    name = text(fields, "role", path)
    if name not in ROLES:
        raise BadRequest(
            join(path, "role"), f"expected one of {', '.join(ROLES)}, got {name!r:.50}"
        )
    content, at = required(fields, "content", path), join(path, "content")
    if isinstance(content, str):
        return Message(ROLES[name], (Text(content),))
    listed = typed(content, list, at)
    blocks = (_block(block, f"{at}.{i}", ROLES[name]) for i, block in enumerate(listed))
    return Message(ROLES[name], tuple(block for block in blocks if block is not None))


def _block(value: Any, path: str, role: Role) -> Block | None:
    block = typed(value, dict, path)
    kind = text(block, "type", path)
    if kind == "text":
        return Text(text(block, "text", path))
    if kind in ("image", "document"):
        raise BadRequest(join(path, "type"), f"{_TEXT_ONLY} a block of type {kind!r}")
    if role == "user" and kind == "tool_result":
        return _tool_result(block, path)
    if role == "assistant" and kind == "tool_use":
        tool_input = typed(required(block, "input", path), dict, join(path, "input"))
        return ToolUse(text(block, "id", path), text(block, "name", path), tool_input)
    if role == "assistant" and kind == "thinking":
        return Thinking(text(block, "thinking", path))
    if role == "assistant" and kind == "redacted_thinking":
        return None
    raise BadRequest(join(path, "type"), f"unexpected block type {kind!r:.50} in a {role} message")


def _tool_result(block: dict[str, Any], path: str) -> ToolResult:
    content = block.get("content")
    if content is None or isinstance(content, str):
        said = content or ""
    else:
        parts = []
        for i, part in enumerate(typed(content, list, join(path, "content"))):
            at = f"{path}.content.{i}"
            kind = text(typed(part, dict, at), "type", at)
            if kind in ("image", "document"):
                raise BadRequest(join(at, "type"), f"{_TEXT_ONLY} a block of type {kind!r}")
            # Other kinds, as references to tools or search results, hold nothing to read.
            parts.append(text(part, "text", at) if kind == "text" else "")
        said = "\n".join(part for part in parts if part)
    is_error = typed(block.get("is_error") or False, bool, join(path, "is_error"))
    return ToolResult(text(block, "tool_use_id", path), said, is_error)


def _sampling(fields: dict[str, Any]) -> Sampling:
    stops = typed(fields.get("stop_sequences") or [], list, "stop_sequences")
    for i, stop in enumerate(stops):
        if not typed(stop, str, f"stop_sequences.{i}").strip():
            raise BadRequest(f"stop_sequences.{i}", "must not be empty or blank")
    max_tokens = count(fields, "max_tokens", 1)
    if max_tokens is None:
        raise BadRequest("max_tokens", "expected an integer")
    return sampling(fields, max_tokens, tuple(stops), hottest=1)


def _tools(fields: dict[str, Any]) -> tuple[tuple[ToolSpec, ...], set[str]]:
    """The client's own tools, and the names of those that Anthropic's servers would run."""
    tools: list[ToolSpec] = []
    elsewhere: set[str] = set()
    for i, item in enumerate(typed(fields.get("tools") or [], list, "tools")):
        path = f"tools.{i}"
        tool = typed(item, dict, path)
        name = text(tool, "name", path)
        if "input_schema" not in tool and tool.get("type") not in (None, "custom"):
            elsewhere.add(name)
            continue
        schema = typed(required(tool, "input_schema", path), dict, join(path, "input_schema"))
        about = typed(tool.get("description") or "", str, join(path, "description"))
        tools.append(ToolSpec(name, about, schema))
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise BadRequest("tools", "tool names must be unique")
    return tuple(tools), elsewhere


def _tool_choice(fields: dict[str, Any], offered: set[str]) -> ToolChoice:
    if fields.get("tool_choice") is None:
        return ToolChoice()
    choice = typed(fields["tool_choice"], dict, "tool_choice")
    mode = text(choice, "type", "tool_choice")
    path = "tool_choice.disable_parallel_tool_use"
    parallel = not typed(choice.get("disable_parallel_tool_use") or False, bool, path)
    if mode == "auto":
        return ToolChoice("auto", parallel=parallel)
    if mode == "none":
        return ToolChoice("none")
    if mode not in ("any", "tool"):
        raise BadRequest("tool_choice.type", f"expected auto, any, tool or none, got {mode!r:.50}")
    if not offered:
        raise BadRequest("tool_choice", f"{mode!r} needs tools to choose from")
    if mode == "any":
        return ToolChoice("any", parallel=parallel)
    name = text(choice, "name", "tool_choice")
    if name not in offered:
        raise BadRequest("tool_choice.name", f"tool {name!r:.70} is not among the tools")
    return ToolChoice("tool", name, parallel)


def _thinking(value: Any) -> bool | None:
    if value is None:
        return None
    kind = text(typed(value, dict, "thinking"), "type", "thinking")
    if kind not in _THINKING:
        raise BadRequest("thinking.type", f"expected one of {', '.join(_THINKING)}")
    return _THINKING[kind]


def _thinking_tokens(value: Any) -> int:
    """The budget; the real API's least of 1,024 is not asked for."""
    budget = value.get("budget_tokens") if isinstance(value, dict) else None
    if budget is None:
        return 0
    n_tokens = typed(budget, int, "thinking.budget_tokens")
    if n_tokens < 1:
        raise BadRequest("thinking.budget_tokens", f"must be at least 1, got {n_tokens}")
    return n_tokens


def _answer_schema(fields: dict[str, Any]) -> dict[str, Any] | None:
    """`output_config.format`, or `output_format` as it was called in the beta."""
    config = typed(fields.get("output_config") or {}, dict, "output_config")
    path = "output_config.format" if config.get("format") else "output_format"
    wanted = config.get("format") or fields.get("output_format")
    if wanted is None:
        return None
    if text(typed(wanted, dict, path), "type", path) != "json_schema":
        raise BadRequest(join(path, "type"), "expected 'json_schema'")
    return typed(required(wanted, "schema", path), dict, join(path, "schema"))


def _session(metadata: Any, headers: Mapping[str, str]) -> str:
    """Claude Code names its session in a header and, as JSON or at the end of an id, in `user_id`.

    Only ever used to group requests in telemetry, so nothing about it is an error.
    """
    if session := headers.get("x-claude-code-session-id"):
        return session[:64]
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str):
        return ""
    if found := _SESSION.search(user_id):
        return found[1]
    try:
        session = json.loads(user_id).get("session_id", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return session[:64] if isinstance(session, str) else ""
