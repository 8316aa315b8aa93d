"""OpenAI's completions: `POST /v1/completions`.

Format: https://platform.openai.com/docs/api-reference/completions. The model goes on with a text as
it is, or fills the gap in front of a `suffix`. Editors complete code with it. What would change the
form of the answer and isn't supported is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdeck.server.chat import ChatRequest, Message, RawPrompt, Text
from mlxdeck.server.dialects.client_names import client_names
from mlxdeck.server.dialects.json_fields import count, limit_tokens, required, typed
from mlxdeck.server.dialects.openai_completions.answers import CompletionsEncoder
from mlxdeck.server.dialects.openai_errors import error_body
from mlxdeck.server.dialects.openai_fields import session, stop_sequences, stream_usage
from mlxdeck.server.dialects.request_body import decode_object
from mlxdeck.server.dialects.sampling import sampling
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.errors import BadRequest, ServerError

MAX_TOKENS = 16
"""The API's own limit for requests that name none."""


class OpenAICompletions:
    """The dialect of editors that complete code."""

    name = "openai_completions"
    path = "/v1/completions"
    roots: tuple[str, ...] = ("/v1/completions",)
    count_path = ""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer."""
        fields = decode_object(body)
        _refuse(fields)
        prompt = _prompt(fields)
        suffix = typed(fields.get("suffix") or "", str, "suffix")
        if not prompt and not suffix:
            raise BadRequest("prompt", "must not be empty")
        max_tokens = limit_tokens(fields, "max_tokens") or MAX_TOKENS
        stops = stop_sequences(fields)
        return ChatRequest(
            model=typed(fields.get("model") or "", str, "model"),
            system=(),
            messages=(Message("user", (Text(prompt),)),),
            sampling=sampling(fields, max_tokens, stops, hottest=2),
            raw=RawPrompt(suffix),
            stream=typed(fields.get("stream") or False, bool, "stream"),
            stream_usage=stream_usage(fields),
            **client_names(headers, session(fields))._asdict(),
            answer_form=prompt if typed(fields.get("echo") or False, bool, "echo") else "",
        )

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """This API has no counts; what would be asked is what would be answered."""
        return self.decode(body, headers)

    def count(self, n_tokens: int) -> bytes:
        """The same count in a body."""
        return to_json({"prompt_tokens": n_tokens})

    def encoder(self, request: ChatRequest, message_id: str) -> CompletionsEncoder:
        """A writer that answers under the client's name of the model."""
        before = str(request.answer_form or "")
        usage = request.stream_usage
        return CompletionsEncoder(message_id, request.model, before=before, usage=usage)

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body; the request's id is in a header."""
        del request_id
        return to_json(error_body(error))


def _refuse(fields: dict[str, Any]) -> None:
    for name in ("n", "best_of"):
        if (count(fields, name, 1) or 1) > 1:
            raise BadRequest(name, "must be 1: only one choice is supported")
    # 0 is a number too: it asks for those of the tokens that are chosen.
    if (asked := fields.get("logprobs")) is not None and asked is not False:
        raise BadRequest("logprobs", "is not supported")


def _prompt(fields: dict[str, Any]) -> str:
    """The text, also as a list of one.

    Raises:
        BadRequest: There are several, or it is token ids.
    """
    prompt = required(fields, "prompt", "")
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list):
        raise BadRequest("prompt", "expected a text")
    listed: list[object] = prompt
    if any(isinstance(each, int | float | list) for each in listed):
        raise BadRequest("prompt", "expected a text: token ids are not supported")
    if len(listed) != 1:
        raise BadRequest("prompt", f"expected one text, got {len(listed)}; send each by itself")
    return typed(listed[0], str, "prompt.0")
