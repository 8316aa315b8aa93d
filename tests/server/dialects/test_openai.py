"""What is special about OpenAI's chat completions, and what its own SDK makes of our bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mlxdeck.server.chat import NO_LIMIT_TOKENS
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest, PromptTooLong, Unauthorized

OPENAI = DIALECTS["openai"]
GOLDEN = Path(__file__).parent / "golden" / "openai"


def body(**fields: Any) -> bytes:
    """A valid request with some fields replaced."""
    base = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps({**base, **fields}).encode()


def said(**fields: Any) -> list[Any]:
    """A conversation that begins with a message of the assistant's."""
    return [{"role": "assistant", **fields}, {"role": "user", "content": "Go on."}]


FUNCTION = {"type": "function", "function": {"name": "f"}}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages: at least one message"),
    ({"messages": [{"role": "system", "content": "s"}]}, "messages: at least one message"),
    ({"messages": [{"role": "judge", "content": ""}]}, "messages.0.role: expected system"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: field required"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages.0.content.0.image_url: Could not process image: this model reads text",
    ),
    ({"messages": said(tool_calls=[{"id": "x"}])}, "messages.0.tool_calls.0.function: field req"),
    ({"n": 2}, "n: must be 1"),
    ({"logprobs": True}, "logprobs: is not supported"),
    ({"top_logprobs": 99}, "top_logprobs: is not supported"),
    ({"modalities": ["text", "audio"]}, "modalities: nothing but text is supported"),
    ({"user": 5}, "user: expected a string"),
    ({"metadata": 5}, "metadata: expected an object"),
    ({"temperature": 3}, "temperature: must be between 0 and 2"),
    ({"max_tokens": 0}, "max_tokens: must be at least 1"),
    ({"tools": [{"type": "function"}]}, "tools.0.function: field required"),
    (
        {"tools": [{"type": "function", "function": {"name": ""}}]},
        "tools.0.function.name: must not be empty",
    ),
    ({"tools": [FUNCTION, FUNCTION]}, "tools: tool names must be unique"),
    ({"tool_choice": "required"}, "tool_choice: needs tools"),
    ({"tool_choice": "sometimes"}, "tool_choice: expected one of auto, none, required"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice.function.name: tool 'g' is not among the tools",
    ),
    ({"response_format": {"type": "xml"}}, "response_format.type: expected text, json_object"),
    ({"stop": [""]}, "stop.0: must not be empty"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_a_bad_request_names_the_field(fields: dict[str, Any], message: str) -> None:
    """By its path, in the message and in `param`."""
    with pytest.raises(BadRequest) as refused:
        chat = OPENAI.decode(body(**fields), {})
        if chat.unsupported:
            # By a model on this machine.
            raise BadRequest(*chat.unsupported)
    assert message in refused.value.message
    error = json.loads(OPENAI.encode_error(refused.value, "req_1"))["error"]
    assert error["param"] == refused.value.path
    assert error["type"] == "invalid_request_error"


def test_errors_carry_the_codes_that_clients_look_for() -> None:
    """A prompt that is too long, and a wrong key."""
    too_long = json.loads(OPENAI.encode_error(PromptTooLong(9, 8), ""))["error"]
    assert too_long["code"] == "context_length_exceeded" and "9 tokens" in too_long["message"]
    wrong_key = json.loads(OPENAI.encode_error(Unauthorized("no"), ""))["error"]
    assert wrong_key["code"] == "invalid_api_key"


def test_no_limit_means_the_context_window() -> None:
    """Either name of the limit counts."""
    assert OPENAI.decode(body(), {}).sampling.max_tokens == NO_LIMIT_TOKENS
    assert OPENAI.decode(body(max_tokens=5), {}).sampling.max_tokens == 5
    assert OPENAI.decode(body(max_completion_tokens=6), {}).sampling.max_tokens == 6


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_the_sdk_reads_body_and_stream_alike(case: str) -> None:
    """Both validate as the SDK's own types, and the stream adds up to the body."""
    whole = ChatCompletion.model_validate_json((GOLDEN / case / "response.json").read_text())
    message = whole.choices[0].message
    text, calls, reason = "", [], None
    for line in (GOLDEN / case / "stream.sse").read_text().splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = ChatCompletionChunk.model_validate_json(line.removeprefix("data: "))
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or []:
                if part.id:
                    calls.append("")
                assert part.function is not None
                calls[part.index] += part.function.arguments or ""
    assert (text or None) == (message.content or None)
    assert reason == whole.choices[0].finish_reason
    functions = [call for call in message.tool_calls or [] if call.type == "function"]
    assert calls == [call.function.arguments for call in functions]
