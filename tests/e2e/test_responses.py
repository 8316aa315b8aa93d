"""The official OpenAI SDK's responses against the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import openai
import pytest
from openai.types.responses import CustomToolParam, FunctionToolParam, Response
from pydantic import BaseModel

from tests.real import Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASKED = "What is the capital of France?"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
}
NOTE: CustomToolParam = {"type": "custom", "name": "note", "description": "Keeps a short note."}


class City(BaseModel):
    """A form for an answer."""

    city: Literal["Paris", "Rome"]
    is_capital: bool


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    """A client of the official SDK."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="dummy", max_retries=0) as client:
        yield client


def test_plain_and_streamed_answers_agree(sdk: openai.OpenAI) -> None:
    """The same text and usage; the second one was known, every token of it."""
    plain = sdk.responses.create(model="local", input=ASKED, temperature=0, max_output_tokens=64)
    assert "Paris" in plain.output_text
    names = []
    with sdk.responses.stream(
        model="local", input=ASKED, temperature=0, max_output_tokens=64
    ) as stream:
        names += [event.type for event in stream]
        final = stream.get_final_response()
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-1] == "response.completed"
    assert final.output_text == plain.output_text
    assert final.id != plain.id
    assert plain.usage is not None and final.usage is not None
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.usage.input_tokens_details.cached_tokens == final.usage.input_tokens
    assert sdk.responses.retrieve(final.id).output_text == plain.output_text


def test_a_conversation_is_kept_by_the_server(sdk: openai.OpenAI) -> None:
    """Each turn names the one before; a deleted one is gone, the conversation goes on."""
    first = sdk.responses.create(model="local", input=ASKED, temperature=0, max_output_tokens=30)
    second = sdk.responses.create(
        model="local",
        input="And of Italy?",
        previous_response_id=first.id,
        temperature=0,
        max_output_tokens=30,
    )
    assert "Rome" in second.output_text
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens > 0.5 * second.usage.input_tokens
    listed = [item.type for item in sdk.responses.input_items.list(second.id)]
    assert listed == ["message"] * 3
    counted = sdk.responses.input_tokens.count(
        model="local", input="And of Italy?", previous_response_id=first.id
    )
    assert counted.input_tokens == second.usage.input_tokens
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="local", input="x", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"
    third = sdk.responses.create(
        model="local", input="Thanks.", previous_response_id=second.id, max_output_tokens=5
    )
    assert third.previous_response_id == second.id


def test_tools_are_called_and_their_results_are_read(sdk: openai.OpenAI) -> None:
    """A function whose arguments conform, and its output by the id of the answer."""
    names = []
    with sdk.responses.stream(
        model="local", input="Weather in Rome?", tools=[WEATHER], tool_choice="required"
    ) as stream:
        names += [event.type for event in stream]
        called = stream.get_final_response()
    assert names.count("response.function_call_arguments.delta") > 1
    (call,) = [item for item in called.output if item.type == "function_call"]
    assert call.name == "weather"
    assert isinstance(json.loads(call.arguments)["city"], str)
    answered = sdk.responses.create(
        model="local",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 25 C."}],
        tools=[WEATHER],
        tool_choice="none",
        previous_response_id=called.id,
        max_output_tokens=40,
    )
    assert answered.status in ("completed", "incomplete")
    assert [item.type for item in answered.output] == ["message"]


def test_a_custom_tool_gets_its_text(sdk: openai.OpenAI) -> None:
    """The model sees a function; the client gets plain text, streamed."""
    pieces = []
    with sdk.responses.stream(
        model="local",
        input="Note that the sea is blue.",
        tools=[NOTE],
        tool_choice={"type": "custom", "name": "note"},
        max_output_tokens=120,
    ) as stream:
        for event in stream:
            if event.type == "response.custom_tool_call_input.delta":
                pieces.append(event.delta)
            if event.type in ("response.completed", "response.incomplete"):
                (call,) = event.response.output
    assert call.type == "custom_tool_call"
    assert (call.name, call.input) == ("note", "".join(pieces))
    assert len(pieces) > 1 and not call.input.startswith("{")


def test_an_answer_takes_a_form(sdk: openai.OpenAI) -> None:
    """The SDK makes an object of it."""
    parsed = sdk.responses.parse(model="local", input=ASKED, text_format=City)
    assert isinstance(parsed.output_parsed, City)


def test_an_answer_at_its_limit_is_incomplete(sdk: openai.OpenAI) -> None:
    """And says why."""
    answer = sdk.responses.create(
        model="local", input="Tell me a long story.", max_output_tokens=16
    )
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_what_clients_send_by_default_is_served(sdk: openai.OpenAI) -> None:
    """Tools of other servers and fields without a meaning here are no errors."""
    answer = sdk.responses.create(
        model="local",
        input=[{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}],
        instructions="Be brief.",
        tools=[{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}],
        tool_choice={"type": "web_search"},
        include=["reasoning.encrypted_content", "web_search_call.action.sources"],
        reasoning={"effort": "low", "summary": "auto"},
        truncation="auto",
        service_tier="auto",
        metadata={"a": "b"},
        store=False,
        max_output_tokens=30,
    )
    assert "Paris" in answer.output_text
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(answer.id)


def test_errors_are_the_sdks_own(sdk: openai.OpenAI) -> None:
    """A bad field, a prompt that is too long."""
    with pytest.raises(openai.BadRequestError, match="temperature") as refused:
        sdk.responses.create(model="local", input=ASKED, temperature=9)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as too_long:
        sdk.responses.create(model="local", input="word " * 20_000)
    assert too_long.value.code == "context_length_exceeded"


def test_conversations_side_by_side(sdk: openai.OpenAI) -> None:
    """Eight at once; each goes on with its own answer."""

    def talk(number: int) -> tuple[Response, Response]:
        first = sdk.responses.create(
            model="local", input=f"Say the number {number}.", max_output_tokens=12
        )
        second = sdk.responses.create(
            model="local", input="Again.", previous_response_id=first.id, max_output_tokens=12
        )
        return first, second

    with ThreadPoolExecutor(8) as clients:
        told = list(clients.map(talk, range(8)))
    for first, second in told:
        assert second.previous_response_id == first.id
        said = [
            part.text
            for item in sdk.responses.input_items.list(second.id, order="asc")
            if item.type == "message" and item.role == "assistant"
            for part in item.content
            if part.type == "output_text"
        ]
        assert said == [first.output_text]
