"""OpenAI's chat completions: `POST /v1/chat/completions`.

Format: https://platform.openai.com/docs/api-reference/chat. What has no meaning for a local model
(store, user, service tier) is dropped; what would change the shape of the answer
and can't be had (several choices, log probabilities, audio) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mlxdeck.server.dialects.fields import count, decode_object, join, required, text, typed
from mlxdeck.server.dialects.openai_stream import OpenAIEncoder, error_body
from mlxdeck.server.dialects.sampling import sampling
from mlxdeck.server.errors import BadRequest, ServerError
from mlxdeck.server.messages import (
    Block,
    ChatRequest,
    Message,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    ToolResult,
    ToolSpec,
    ToolUse,
)

NO_LIMIT_TOKENS = 1 << 30
"""For requests that name no limit: the context window is one."""
_SYSTEM = ("system", "developer")
_CHOICES = ("auto", "none", "required")


class OpenAI:
    """The dialect that most other clients speak."""

    name = "openai"
    path = "/v1/chat/completions"
    count_path = ""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        del headers
        fields = decode_object(body)
        _refuse(fields)
        messages = _messages(fields)
        leading = 0
        while leading < len(messages) and messages[leading].role == "system":
            leading += 1
        system = [
            block.text
            for message in messages[:leading]
            for block in message.blocks
            if isinstance(block, Text)
        ]
        rest = tuple(messages[leading:])
        if not rest:
            raise BadRequest("messages", "at least one message is required that is no system one")
        tools = _tools(fields)
        return ChatRequest(
            model=text(fields, "model", ""),
            system=tuple(system),
            messages=rest,
            sampling=_sampling(fields),
            tools=tools,
            tool_choice=_tool_choice(fields, {tool.name for tool in tools}),
            stream=typed(fields.get("stream") or False, bool, "stream"),
            thinking=_thinking(fields),
            answer_schema=_answer_schema(fields),
            stream_usage=_stream_usage(fields),
            session_id=_session(fields),
        )

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """This API has no counts; what would be asked is what would be answered."""
        return self.decode(body, headers)

    def count(self, n_tokens: int) -> bytes:
        """The same count in a body."""
        return msgspec.json.encode({"prompt_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> OpenAIEncoder:
        """A writer that answers under the model's name that the client asked for."""
        return OpenAIEncoder(message_id, request.model, usage=request.stream_usage)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body; the request's id is in a header."""
        del request_id
        return msgspec.json.encode(error_body(error))


def _refuse(fields: dict[str, Any]) -> None:
    if (count(fields, "n", 1) or 1) > 1:
        raise BadRequest("n", "only one choice at a time is served")
    for name in ("logprobs", "audio", "functions", "function_call"):
        if fields.get(name):
            raise BadRequest(name, "is not supported")


def _messages(fields: dict[str, Any]) -> list[Message]:
    found: list[Message] = []
    for i, item in enumerate(typed(required(fields, "messages", ""), list, "messages")):
        path = f"messages.{i}"
        fields_ = typed(item, dict, path)
        role = text(fields_, "role", path)
        if role in _SYSTEM:
            found.append(Message("system", _texts(fields_.get("content"), path)))
        elif role == "user":
            found.append(Message("user", _texts(required(fields_, "content", path), path)))
        elif role == "assistant":
            found.append(Message("assistant", _said(fields_, path)))
        elif role == "tool":
            result = _result(fields_, path)
            last = found[-1] if found else None
            if last and last.role == "user" and isinstance(last.blocks[-1], ToolResult):
                # The results of one turn's calls are one turn.
                found[-1] = Message("user", (*last.blocks, result))
            else:
                found.append(Message("user", (result,)))
        else:
            raise BadRequest(
                join(path, "role"),
                f"expected system, developer, user, assistant or tool, got {role!r:.50}",
            )
    return found


def _texts(content: Any, path: str) -> tuple[Text, ...]:
    if content is None or isinstance(content, str):
        return (Text(content or ""),)
    at = join(path, "content")
    parts = []
    for i, item in enumerate(typed(content, list, at)):
        part = typed(item, dict, f"{at}.{i}")
        kind = text(part, "type", f"{at}.{i}")
        if kind not in ("text", "refusal"):
            raise BadRequest(
                f"{at}.{i}.type", f"this model reads text only, so it can't take {kind!r:.50}"
            )
        parts.append(Text(text(part, kind, f"{at}.{i}")))
    return tuple(parts) or (Text(""),)


def _said(fields: dict[str, Any], path: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if thought := fields.get("reasoning_content"):
        blocks.append(Thinking(typed(thought, str, join(path, "reasoning_content"))))
    blocks += [block for block in _texts(fields.get("content"), path) if block.text]
    at = join(path, "tool_calls")
    for i, item in enumerate(typed(fields.get("tool_calls") or [], list, at)):
        call = typed(item, dict, f"{at}.{i}")
        function = typed(required(call, "function", f"{at}.{i}"), dict, f"{at}.{i}.function")
        here = f"{at}.{i}.function"
        raw = text(function, "arguments", here)
        try:
            arguments = msgspec.json.decode(raw or "{}")
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise BadRequest(join(here, "arguments"), f"no JSON: {error}") from error
        name = text(function, "name", here)
        blocks.append(
            ToolUse(
                text(call, "id", f"{at}.{i}"), name, typed(arguments, dict, join(here, "arguments"))
            )
        )
    return tuple(blocks)


def _result(fields: dict[str, Any], path: str) -> ToolResult:
    said = "\n".join(part.text for part in _texts(fields.get("content"), path) if part.text)
    return ToolResult(text(fields, "tool_call_id", path), said)


def _sampling(fields: dict[str, Any]) -> Sampling:
    stop = fields.get("stop") or []
    stops = [stop] if isinstance(stop, str) else typed(stop, list, "stop")
    for i, each in enumerate(stops):
        if not typed(each, str, f"stop.{i}"):
            raise BadRequest(f"stop.{i}", "must not be empty")
    limits = (_limit(fields, name) for name in ("max_completion_tokens", "max_tokens"))
    return sampling(fields, next(filter(None, limits), NO_LIMIT_TOKENS), tuple(stops), hottest=2)


def _limit(fields: dict[str, Any], name: str) -> int | None:
    """Most tokens that the answer may have; some say -1 for as many as there is room for."""
    return NO_LIMIT_TOKENS if fields.get(name) == -1 else count(fields, name, 1)


def _tools(fields: dict[str, Any]) -> tuple[ToolSpec, ...]:
    tools: dict[str, ToolSpec] = {}
    for i, item in enumerate(typed(fields.get("tools") or [], list, "tools")):
        path = f"tools.{i}"
        tool = typed(item, dict, path)
        if text(tool, "type", path) != "function":
            raise BadRequest(join(path, "type"), "only tools of type 'function' are served")
        at = join(path, "function")
        function = typed(required(tool, "function", path), dict, at)
        name = text(function, "name", at)
        if name in tools:
            raise BadRequest("tools", "tool names must be unique")
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        about = typed(function.get("description") or "", str, join(at, "description"))
        tools[name] = ToolSpec(name, about, typed(schema, dict, join(at, "parameters")))
    return tuple(tools.values())


def _tool_choice(fields: dict[str, Any], offered: set[str]) -> ToolChoice:
    choice = fields.get("tool_choice")
    parallel = fields.get("parallel_tool_calls")
    several = True if parallel is None else typed(parallel, bool, "parallel_tool_calls")
    if choice is None or choice == "auto":
        return ToolChoice("auto", parallel=several)
    if choice == "none":
        return ToolChoice("none")
    if isinstance(choice, str) and choice != "required":
        raise BadRequest("tool_choice", f"expected one of {', '.join(_CHOICES)} or a function")
    if not offered:
        raise BadRequest("tool_choice", "needs tools to choose from")
    if choice == "required":
        return ToolChoice("any", parallel=several)
    function = required(typed(choice, dict, "tool_choice"), "function", "tool_choice")
    name = text(typed(function, dict, "tool_choice.function"), "name", "tool_choice.function")
    if name not in offered:
        raise BadRequest("tool_choice.function.name", f"tool {name!r:.70} is not among the tools")
    return ToolChoice("tool", name, several)


def _thinking(fields: dict[str, Any]) -> bool | None:
    """OpenAI's `reasoning_effort`, and the switch that vLLM and others take."""
    effort = fields.get("reasoning_effort")
    if effort is not None:
        return typed(effort, str, "reasoning_effort") != "none"
    options = typed(fields.get("chat_template_kwargs") or {}, dict, "chat_template_kwargs")
    wanted = options.get("enable_thinking")
    return None if wanted is None else typed(wanted, bool, "chat_template_kwargs.enable_thinking")


def _answer_schema(fields: dict[str, Any]) -> dict[str, Any] | None:
    wanted = fields.get("response_format")
    if wanted is None:
        return None
    kind = text(typed(wanted, dict, "response_format"), "type", "response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise BadRequest("response_format.type", "expected text, json_object or json_schema")
    path = "response_format.json_schema"
    named = typed(required(wanted, "json_schema", "response_format"), dict, path)
    return typed(named.get("schema") or {}, dict, join(path, "schema"))


def _stream_usage(fields: dict[str, Any]) -> bool:
    options = typed(fields.get("stream_options") or {}, dict, "stream_options")
    return typed(options.get("include_usage") or False, bool, "stream_options.include_usage")


def _session(fields: dict[str, Any]) -> str:
    """What clients name a conversation by, for telemetry alone; nothing about it is an error."""
    key = fields.get("prompt_cache_key") or fields.get("session_id")
    return key[:64] if isinstance(key, str) else ""
