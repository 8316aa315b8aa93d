"""OpenAI's responses: `POST /v1/responses`.

Format: https://platform.openai.com/docs/api-reference/responses. Fields without meaning for a local
model (service tier, safety identifier, truncation) are dropped. Fields that would change the form
of the answer and aren't supported (background, log probabilities) are refused, and so are those
that name something on OpenAI's servers (conversations, prompts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from mlxdeck.server.chat import NO_LIMIT_TOKENS, ChatRequest, Sampling
from mlxdeck.server.dialects.base import StoredAnswer
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
from mlxdeck.server.dialects.openai_errors import error_body
from mlxdeck.server.dialects.openai_responses.answer_form import AnswerForm, echoed
from mlxdeck.server.dialects.openai_responses.answers import ResponsesEncoder, answer_of
from mlxdeck.server.dialects.openai_responses.history import ResponsesHistory
from mlxdeck.server.dialects.openai_responses.stored_items import (
    conversation_items,
    input_page,
    quoted_items,
)
from mlxdeck.server.dialects.openai_responses.tools import Tools
from mlxdeck.server.dialects.request_body import decode_object
from mlxdeck.server.dialects.sampling import sampling
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.dialects.template_options import effort, template_options
from mlxdeck.server.errors import BadRequest, ServerError, UnknownPrevious
from mlxdeck.server.schemas.normalization import answer_schema

_NOT_SERVED = ("background", "conversation", "prompt", "top_logprobs")


class OpenAIResponses:
    """The dialect that Codex speaks."""

    name = "openai_responses"
    path = "/v1/responses"
    roots: tuple[str, ...] = ("/v1/responses", "/v1/conversations")
    count_path = "/v1/responses/input_tokens"

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        fields = decode_object(body)
        _check(fields)
        form = AnswerForm(fields, client_names(headers, _session(fields)))
        if refers_to := _refers_to(fields):
            # The rest is read with what it refers to.
            return ChatRequest(
                model=_model(fields),
                system=(),
                messages=(),
                sampling=Sampling(NO_LIMIT_TOKENS),
                refers_to=refers_to,
                answer_form=form,
            )
        return _request(form, [], _items(fields))

    def recall(self, request: ChatRequest, found: Mapping[str, StoredAnswer]) -> ChatRequest:
        """The whole of a request that continues or quotes stored answers."""
        form = request.answer_form
        assert isinstance(form, AnswerForm)
        items = quoted_items(_items(form.fields), found)
        previous_id = form.fields.get("previous_response_id")
        if not previous_id:
            return _request(form, [], items)
        if previous_id not in found:
            raise UnknownPrevious(previous_id)
        previous = found[previous_id]
        earlier = conversation_items(previous)
        return _request(replace(form, previous=previous), earlier, items)

    def stored_body(self, answer: StoredAnswer, query: Mapping[str, str]) -> bytes:
        """A stored answer, as it was sent."""
        if query.get("stream", "false") != "false":
            raise BadRequest("stream", "is not supported for a stored response")
        body = msgspec.json.decode(answer.body)
        return to_json({**body, "output": msgspec.Raw(answer.output)})

    def input_body(self, answer: StoredAnswer, query: Mapping[str, str]) -> bytes:
        """A page of the items that it answered."""
        return input_page(answer, query)

    def deleted_body(self, answer_id: str) -> bytes:
        """The body for an answer that was deleted."""
        return to_json({"id": answer_id, "object": "response", "deleted": True})

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """The same as a request for an answer."""
        return self.decode(body, headers)

    def count(self, n_tokens: int) -> bytes:
        """The body of a token count."""
        return to_json({"object": "response.input_tokens", "input_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> ResponsesEncoder:
        """A writer that answers under the client's name of the model."""
        form = request.answer_form
        form = form if isinstance(form, AnswerForm) else AnswerForm()
        return ResponsesEncoder(message_id, request.model, form)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body; the request's id is in a header."""
        del request_id
        return to_json(error_body(error))


def _check(fields: dict[str, Any]) -> None:
    """Refuse what can't be served, and fields of a wrong type that only the answer repeats."""
    for name in _NOT_SERVED:
        if fields.get(name):
            raise BadRequest(name, "is not supported")
    for name in ("instructions", "prompt_cache_key", "previous_response_id", "truncation"):
        typed(fields.get(name) or "", str, name)
    for name in ("user", "safety_identifier"):
        typed(fields.get(name) or "", str, name)
    typed(True if fields.get("store") is None else fields["store"], bool, "store")
    count(fields, "max_tool_calls", 0)
    for i, each in enumerate(typed(fields.get("include") or [], list, "include")):
        typed(each, str, f"include.{i}")
    metadata = typed(fields.get("metadata") or {}, dict, "metadata")
    for key, value in metadata.items():
        typed(value, str, f"metadata.{key[:50]}")


def _request(form: AnswerForm, earlier: list[Any], items: list[Any]) -> ChatRequest:
    fields, notes = form.fields, Notes()
    messages = ResponsesHistory(notes).read([*earlier, *items], len(earlier))
    system, rest = leading_system(messages)
    if instructions := fields.get("instructions"):
        system = (instructions, *system)
    if not rest:
        raise BadRequest("input", "at least one item that is no system message is required")
    tools = Tools(notes)
    tools.read(fields)
    tools.read_items([*earlier, *items])
    choice, specs = tools.choice(fields)
    return ChatRequest(
        # Any name is served; some clients of servers with one model send none.
        model=_model(fields),
        system=system,
        messages=rest,
        sampling=_sampling(fields),
        tools=specs,
        tool_choice=choice,
        stream=typed(fields.get("stream") or False, bool, "stream"),
        thinking=_thinking(fields),
        effort=_effort(fields),
        template_options=template_options(fields),
        **_answer_schema(fields),
        **form.names._asdict(),
        history_notes=notes.all(),
        unsupported=notes.unsupported,
        answer_form=replace(form, tools=tools.served, items=tuple(items), echo=echoed(fields)),
    )


def _model(fields: dict[str, Any]) -> str:
    return typed(fields.get("model") or "", str, "model")


def _items(fields: dict[str, Any]) -> list[Any]:
    """The input as items, also where it is a text."""
    if fields.get("input") is None and fields.get("previous_response_id"):
        return []
    said = required(fields, "input", "")
    if isinstance(said, str):
        content = [{"type": "input_text", "text": said}]
        return [{"type": "message", "role": "user", "content": content}]
    return typed(said, list, "input")


def _refers_to(fields: dict[str, Any]) -> tuple[str, ...]:
    """The ids of all answers that a request continues or quotes, the former first."""
    found = dict.fromkeys(filter(None, [fields.get("previous_response_id")]))
    for i, item in enumerate(_items(fields)):
        if isinstance(item, dict) and item.get("type") == "item_reference":
            found[answer_of(text(item, "id", f"input.{i}"))] = None
    return tuple(found)


def _sampling(fields: dict[str, Any]) -> Sampling:
    limit = limit_tokens(fields, "max_output_tokens")
    return sampling(fields, limit or NO_LIMIT_TOKENS, (), hottest=2)


def _thinking(fields: dict[str, Any]) -> bool | None:
    """An effort of none is none; beside it the switch of vLLM and others."""
    asked = _reasoning(fields).get("effort")
    if asked is not None:
        return typed(asked, str, "reasoning.effort") != "none"
    options = typed(fields.get("chat_template_kwargs") or {}, dict, "chat_template_kwargs")
    wanted = options.get("enable_thinking")
    return None if wanted is None else typed(wanted, bool, "chat_template_kwargs.enable_thinking")


def _effort(fields: dict[str, Any]) -> str:
    word = effort(_reasoning(fields).get("effort"), "reasoning.effort")
    return "" if word == "none" else word


def _reasoning(fields: dict[str, Any]) -> dict[str, Any]:
    return typed(fields.get("reasoning") or {}, dict, "reasoning")


def _answer_schema(fields: dict[str, Any]) -> dict[str, Any]:
    path = "text.format"
    form = typed(fields.get("text") or {}, dict, "text").get("format")
    if form is None:
        return {}
    kind = text(typed(form, dict, path), "type", path)
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"answer_schema": {"type": "object"}}
    if kind != "json_schema":
        raise BadRequest(join(path, "type"), "expected text, json_object or json_schema")
    at = join(path, "schema")
    schema = answer_schema(shallow(typed(required(form, "schema", path), dict, at), at), at)
    strict = typed(form.get("strict") or False, bool, join(path, "strict"))
    return {"answer_schema": schema, "answer_field": at, "answer_strict": strict}


def _session(fields: dict[str, Any]) -> str:
    """The session as Codex names it in the body."""
    key = fields.get("prompt_cache_key")
    return key if isinstance(key, str) else ""
