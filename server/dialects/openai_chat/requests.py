"""OpenAI's chat completions: `POST /v1/chat/completions`.

Format: https://platform.openai.com/docs/api-reference/chat. Fields without meaning for a local
model (store, user, service tier) are dropped. Fields that would change the form of the answer and
aren't supported (log probabilities, audio) are noted, and several choices are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdeck.server.chat import NO_LIMIT_TOKENS, ChatRequest, ClientBody, Sampling, ToolSpec
from mlxdeck.server.dialects.client_names import client_names
from mlxdeck.server.dialects.history.message_parts import leading_system
from mlxdeck.server.dialects.history.notes import Notes
from mlxdeck.server.dialects.json_fields import (
    count,
    join,
    limit_tokens,
    required,
    shallow,
    text,
    typed,
)
from mlxdeck.server.dialects.openai_chat.answers import OpenAIEncoder
from mlxdeck.server.dialects.openai_chat.history import OpenAIHistory
from mlxdeck.server.dialects.openai_errors import error_body
from mlxdeck.server.dialects.openai_fields import session, stop_sequences, stream_usage
from mlxdeck.server.dialects.openai_tools import (
    function_spec,
    inner_fields,
    name_of,
    tool_choice,
)
from mlxdeck.server.dialects.request_body import decode_object
from mlxdeck.server.dialects.sampling import sampling
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.dialects.template_options import effort, template_options
from mlxdeck.server.errors import BadRequest, ServerError
from mlxdeck.server.schemas.normalization import answer_schema

ONLY_ELSEWHERE = ("logprobs", "top_logprobs", "audio", "functions", "function_call")
"""Fields that would change the form of the answer. Only a server of the same API knows it."""


class OpenAI:
    """The dialect that most other clients speak."""

    name = "openai"
    path = "/v1/chat/completions"
    roots: tuple[str, ...] = (
        *("/v1/chat", "/v1/embeddings"),
        *("/v1/audio", "/v1/images", "/v1/moderations", "/v1/batches", "/v1/realtime"),
        *("/v1/assistants", "/v1/threads", "/v1/fine_tuning", "/v1/uploads", "/v1/vector_stores"),
    )
    count_path = ""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        fields = decode_object(body)
        notes = Notes()
        _refuse(fields, notes)
        listed = typed(required(fields, "messages", ""), list, "messages")
        messages = OpenAIHistory(notes).read(listed)
        system, rest = leading_system(messages)
        if not rest:
            raise BadRequest(
                "messages", "at least one message with another role than system is required"
            )
        tools, elsewhere = _tools(fields, notes)
        choice, tools = tool_choice(fields, tools, elsewhere, name_at="function.name")
        return ChatRequest(
            # Any name is served; some clients of servers with one model send none.
            model=typed(fields.get("model") or "", str, "model"),
            system=system,
            messages=rest,
            sampling=_sampling(fields),
            tools=tools,
            tool_choice=choice,
            stream=typed(fields.get("stream") or False, bool, "stream"),
            thinking=_thinking(fields),
            effort=_effort(fields),
            template_options=template_options(fields),
            **_answer_schema(fields),
            stream_usage=stream_usage(fields),
            **client_names(headers, session(fields))._asdict(),
            history_notes=notes.all(),
            unsupported=notes.unsupported,
            client=ClientBody("openai", fields),
        )

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """This API has no counts; what would be asked is what would be answered."""
        return self.decode(body, headers)

    def count(self, n_tokens: int) -> bytes:
        """The same count in a body."""
        return to_json({"prompt_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> OpenAIEncoder:
        """A writer that answers under the client's name of the model."""
        return OpenAIEncoder(message_id, request.model, usage=request.stream_usage)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body; the request's id is in a header."""
        del request_id
        return to_json(error_body(error))


def _refuse(fields: dict[str, Any], notes: Notes) -> None:
    if (count(fields, "n", 1) or 1) > 1:
        raise BadRequest("n", "must be 1: only one choice is supported")
    for name in ONLY_ELSEWHERE:
        if fields.get(name):
            notes.refuse(BadRequest(name, "is not supported"))
    modalities = typed(fields.get("modalities") or [], list, "modalities")
    if any(each != "text" for each in modalities):
        notes.refuse(BadRequest("modalities", "nothing but text is supported"))
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        typed(fields.get(name) or "", str, name)
    typed(fields.get("metadata") or {}, dict, "metadata")


def _sampling(fields: dict[str, Any]) -> Sampling:
    limits = (limit_tokens(fields, name) for name in ("max_completion_tokens", "max_tokens"))
    max_tokens = next(filter(None, limits), NO_LIMIT_TOKENS)
    return sampling(fields, max_tokens, stop_sequences(fields), hottest=2)


def _tools(fields: dict[str, Any], notes: Notes) -> tuple[tuple[ToolSpec, ...], set[str]]:
    """The functions, and the names of tools of other types, which this server can't run."""
    tools: dict[str, ToolSpec] = {}
    elsewhere: set[str] = set()
    for i, item in enumerate(typed(fields.get("tools") or [], list, "tools")):
        path = f"tools.{i}"
        tool = typed(item, dict, path)
        kind = text(tool, "type", path)
        if kind != "function":
            elsewhere.add(name_of(tool) or kind)
            notes.add("left_out", f"tools.{kind}")
            continue
        spec = function_spec(*inner_fields(tool, kind, path), notes)
        if spec.name in tools:
            raise BadRequest("tools", "tool names must be unique")
        tools[spec.name] = spec
    return tuple(tools.values()), elsewhere


def _thinking(fields: dict[str, Any]) -> bool | None:
    """OpenAI's `reasoning_effort`, and the switch of vLLM and others."""
    asked = fields.get("reasoning_effort")
    if asked is not None:
        return typed(asked, str, "reasoning_effort") != "none"
    options = typed(fields.get("chat_template_kwargs") or {}, dict, "chat_template_kwargs")
    wanted = options.get("enable_thinking")
    return None if wanted is None else typed(wanted, bool, "chat_template_kwargs.enable_thinking")


def _effort(fields: dict[str, Any]) -> str:
    """No effort at all is what `_thinking` says."""
    word = effort(fields.get("reasoning_effort"), "reasoning_effort")
    return "" if word == "none" else word


def _answer_schema(fields: dict[str, Any]) -> dict[str, Any]:
    wanted = fields.get("response_format")
    if wanted is None:
        return {}
    kind = text(typed(wanted, dict, "response_format"), "type", "response_format")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"answer_schema": {"type": "object"}}
    if kind != "json_schema":
        raise BadRequest("response_format.type", "expected text, json_object or json_schema")
    path = "response_format.json_schema"
    named = typed(required(wanted, "json_schema", "response_format"), dict, path)
    at = join(path, "schema")
    schema = answer_schema(shallow(typed(named.get("schema") or {}, dict, at), at), at)
    strict = typed(named.get("strict") or False, bool, join(path, "strict"))
    return {"answer_schema": schema, "answer_field": at, "answer_strict": strict}
