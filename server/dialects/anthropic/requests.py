"""Anthropic's Messages API: `POST /v1/messages` and `/v1/messages/count_tokens`.

Format: https://docs.anthropic.com/en/api/messages and .../messages-streaming. Fields without
meaning for a local model (cache marks, metadata, context management, betas) are only kept in the
client's own words. So they reach neither the prompt nor the key of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mlxdeck.server.chat import (
    NO_LIMIT_TOKENS,
    ChatRequest,
    ClientBody,
    Sampling,
    ToolChoice,
    ToolSpec,
)
from mlxdeck.server.dialects.anthropic.answers import AnthropicEncoder, error_body
from mlxdeck.server.dialects.anthropic.history import AnthropicHistory
from mlxdeck.server.dialects.client_names import client_names
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.json_fields import (
    filled_text,
    join,
    limit_tokens,
    required,
    shallow,
    shown,
    text,
    typed,
    whole,
)
from mlxdeck.server.dialects.request_body import decode_object
from mlxdeck.server.dialects.sampling import sampling, stop_texts
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.dialects.template_options import effort, template_options
from mlxdeck.server.errors import BadRequest, ServerError
from mlxdeck.server.schemas.known_schemas import known_tool_schema
from mlxdeck.server.schemas.normalization import answer_schema

PASSED_ON = (
    *("anthropic-version", "anthropic-beta", "x-claude-code-session-id"),
    *("x-claude-code-agent-id", "x-claude-code-parent-agent-id"),
)
"""Headers that belong to a body."""
_SESSION = re.compile(r"session_([0-9a-fA-F-]{36})")
_THINKING = {"enabled": True, "adaptive": True, "disabled": False}


class Anthropic:
    """The dialect that Claude Code speaks."""

    name = "anthropic"
    path = "/v1/messages"
    roots: tuple[str, ...] = ("/v1/messages", "/v1/complete", "/v1/organizations", "/v1/skills")
    count_path = "/v1/messages/count_tokens"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        fields = decode_object(body)
        required(fields, "max_tokens", "")
        return _request(fields, headers, Notes(), counted=False)

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for a count, which has no use for a token limit."""
        return _request(decode_object(body), headers, Notes(), counted=True)

    def count(self, n_tokens: int) -> bytes:
        """The body of a token count."""
        return to_json({"input_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> AnthropicEncoder:
        """A writer that answers under the client's name of the model."""
        return AnthropicEncoder(message_id, request.model)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body."""
        return to_json({**error_body(error), "request_id": request_id})


def _request(
    fields: dict[str, Any], headers: Mapping[str, str], notes: Notes, *, counted: bool
) -> ChatRequest:
    messages = typed(required(fields, "messages", ""), list, "messages")
    if not messages:
        raise BadRequest("messages", "at least one message is required")
    tools, elsewhere = _tools(fields, notes)
    return ChatRequest(
        model=text(fields, "model", ""),
        system=_system(fields.get("system")),
        messages=AnthropicHistory(notes).read(messages),
        sampling=_sampling({**fields, "max_tokens": 1} if counted else fields),
        tools=tools,
        tool_choice=_tool_choice(fields, {tool.name for tool in tools} | elsewhere),
        stream=typed(fields.get("stream") or False, bool, "stream"),
        thinking=_thinking(fields.get("thinking")),
        thinking_tokens=_thinking_tokens(fields.get("thinking")),
        effort=_effort(fields),
        template_options=template_options(fields),
        **_answer_schema(fields),
        **client_names(headers, session_of(fields.get("metadata")))._asdict(),
        history_notes=notes.all(),
        unsupported=notes.unsupported,
        client=ClientBody("anthropic", fields, _passed_on(headers)),
    )


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in PASSED_ON if name in headers}


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


def _sampling(fields: dict[str, Any]) -> Sampling:
    name = "stop_sequences"
    stops = stop_texts(typed(fields.get(name) or [], list, name), name)
    for i, stop in enumerate(stops):
        if not stop.strip():
            raise BadRequest(f"{name}.{i}", "must not be empty or blank")
    if fields["max_tokens"] is None:
        raise BadRequest("max_tokens", "expected an integer")
    limit = limit_tokens(fields, "max_tokens") or NO_LIMIT_TOKENS
    return sampling(fields, limit, stops, hottest=1)


def _tools(fields: dict[str, Any], notes: Notes) -> tuple[tuple[ToolSpec, ...], set[str]]:
    """The client's own tools, and the names of those that Anthropic's servers would run."""
    tools: list[ToolSpec] = []
    elsewhere: set[str] = set()
    for i, item in enumerate(typed(fields.get("tools") or [], list, "tools")):
        path = f"tools.{i}"
        tool = typed(item, dict, path)
        kind = tool.get("type")
        if kind not in (None, "custom") and not (tool.get("name") and "input_schema" in tool):
            # Search, code execution, all that a server on the network offers.
            elsewhere.add(str(tool.get("name") or ""))
            notes.add("left_out", f"tools.{kind}")
            continue
        name = filled_text(tool, "name", path)
        schema = typed(required(tool, "input_schema", path), dict, join(path, "input_schema"))
        about = typed(tool.get("description") or "", str, join(path, "description"))
        at = join(path, "input_schema")
        # Clients seldom wrote these schemas themselves: too deep or too long parts are left out.
        read = known_tool_schema(schema, at, lambda: notes.add("left_out", "tools.schema_parts"))
        tools.append(ToolSpec(name, about, read))
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
    if not name or name not in offered:
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
    """The budget; the real API's minimum of 1,024 does not apply."""
    budget = value.get("budget_tokens") if isinstance(value, dict) else None
    if budget is None:
        return 0
    n_tokens = whole(budget, "thinking.budget_tokens")
    if n_tokens < 1:
        raise BadRequest("thinking.budget_tokens", f"must be at least 1, got {shown(n_tokens)}")
    return min(n_tokens, NO_LIMIT_TOKENS)


def _effort(fields: dict[str, Any]) -> str:
    config = typed(fields.get("output_config") or {}, dict, "output_config")
    return effort(config.get("effort"), "output_config.effort")


def _answer_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """`output_config.format`, or `output_format`, its name in the beta."""
    config = typed(fields.get("output_config") or {}, dict, "output_config")
    path = "output_config.format" if config.get("format") else "output_format"
    wanted = config.get("format") or fields.get("output_format")
    if wanted is None:
        return {}
    if text(typed(wanted, dict, path), "type", path) != "json_schema":
        raise BadRequest(join(path, "type"), "expected 'json_schema'")
    at = join(path, "schema")
    schema = answer_schema(shallow(typed(required(wanted, "schema", path), dict, at), at), at)
    return {"answer_schema": schema, "answer_field": at}


def session_of(metadata: Any) -> str:
    """Claude Code names its session as JSON or at the end of an id in `user_id`, too."""
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str):
        return ""
    if found := _SESSION.search(user_id):
        return found[1]
    try:
        session = json.loads(user_id).get("session_id", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return session if isinstance(session, str) else ""
