"""The official OpenAI SDK against the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.real import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASKED: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """A client of the official SDK."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="dummy", max_retries=0) as client:
        yield client


def test_streaming_and_plain_agree(sdk: openai.OpenAI) -> None:
    """The same text and usage, with the cached tokens told."""
    plain = sdk.chat.completions.create(
        model="local", messages=ASKED, temperature=0, max_completion_tokens=64
    )
    text, usage = "", None
    for chunk in sdk.chat.completions.create(
        model="local",
        messages=ASKED,
        temperature=0,
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert "Paris" in text
    assert text == plain.choices[0].message.content
    assert plain.choices[0].finish_reason == "stop"
    assert plain.usage is not None and usage is not None
    assert usage.completion_tokens == plain.usage.completion_tokens
    # The second was known already, every token of it.
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens


def test_a_tool_can_be_required_and_its_arguments_stream(sdk: openai.OpenAI) -> None:
    """The pieces add up to JSON that fits the schema, and there is more than one of them."""
    pieces: list[str] = []
    names: list[str] = []
    reason = None
    for chunk in sdk.chat.completions.create(
        model="local",
        messages=ASKED,
        tools=[WEATHER],
        tool_choice="required",
        temperature=0,
        stream=True,
    ):
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                names += [call.function.name] if call.function.name else []
                pieces += [call.function.arguments] if call.function.arguments else []
    assert (names, reason) == (["weather"], "tool_calls")
    assert isinstance(json.loads("".join(pieces))["city"], str)
    assert len(pieces) > 2


def test_an_answer_can_be_held_to_a_schema(sdk: openai.OpenAI) -> None:
    """`response_format` with a schema: the whole answer is JSON of it."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "n": {"type": "integer", "maximum": 9}},
        "required": ["city"],
    }
    answer = sdk.chat.completions.create(
        model="local",
        messages=ASKED,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "")["city"] in ("Paris", "Rome")


def test_a_text_is_completed(sdk: openai.OpenAI) -> None:
    """Streamed and not, with its first blank; a gap needs a model that fills gaps."""
    prompt = "The capital of France is"
    asked: dict[str, Any] = {"model": "local", "prompt": prompt, "temperature": 0, "max_tokens": 8}
    plain = sdk.completions.create(**asked, echo=True)
    text, usage = "", None
    options: Any = {"include_usage": True}
    for chunk in sdk.completions.create(**asked, stream=True, stream_options=options):
        text += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text.startswith(" Paris")
    assert plain.choices[0].text == prompt + text
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None and usage is not None
    assert usage.completion_tokens == plain.usage.completion_tokens == 8
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.completions.create(**asked, suffix=".")
    assert refused.value.param == "suffix"


def test_models_and_errors_are_the_sdks_own(sdk: openai.OpenAI) -> None:
    """The list of models and each of them, a bad request, a prompt that is too long."""
    for model in (listed := list(sdk.models.list())):
        assert sdk.models.retrieve(model.id) == model
    assert [model.to_dict()["max_model_len"] for model in listed] == [8192]
    with pytest.raises(openai.NotFoundError, match="no-such/model") as unknown:
        sdk.models.retrieve("no-such/model")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="temperature"):
        sdk.chat.completions.create(model="local", messages=ASKED, temperature=9)
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="local", messages=long)
    assert refused.value.code == "context_length_exceeded"
