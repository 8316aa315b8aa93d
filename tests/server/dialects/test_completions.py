"""OpenAI's completions: a text goes to the model as it is, and comes back as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import BadRequest
from mlxdeck.telemetry.schema.events import CacheLookup, RequestStart
from tests.server.http import Running, running

PATH = "/v1/completions"
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
ANSWER = f"\n\n  <think>a</think> {CALL}\n```json\n{{}}\n```\n <tool_c"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt: field required"),
    ({"prompt": None}, "prompt: expected a text"),
    ({"prompt": ""}, "prompt: must not be empty"),
    ({"prompt": []}, "prompt: expected one text, got 0"),
    ({"prompt": ["a", "b"]}, "prompt: expected one text, got 2"),
    ({"prompt": [1, 2]}, "prompt: expected a text: token ids"),
    ({"prompt": [[1, 2]]}, "prompt: expected a text: token ids"),
    ({"prompt": [{}]}, "prompt.0: expected a string"),
    ({"prompt": "a", "suffix": 1}, "suffix: expected a string"),
    ({"prompt": "a", "n": 2}, "n: must be 1"),
    ({"prompt": "a", "best_of": 3}, "best_of: must be 1"),
    ({"prompt": "a", "logprobs": 0}, "logprobs: is not supported"),
    ({"prompt": "a", "logprobs": 5}, "logprobs: is not supported"),
    ({"prompt": "a", "echo": "yes"}, "echo: expected true or false"),
    ({"prompt": "a", "max_tokens": 0}, "max_tokens: must be at least 1"),
    ({"prompt": "a", "stop": ["x", ""]}, "stop.1: must not be empty"),
    ({"prompt": "a", "stop": ["x"] * 65}, "stop: takes at most 64 texts, got 65"),
    ({"prompt": "a", "stop": ["x", "y" * 501]}, "stop.1: takes at most 500 characters, got 501"),
]


@pytest.mark.parametrize(("fields", "why"), REFUSED)
def test_what_cannot_be_served_is_named(fields: dict[str, Any], why: str) -> None:
    """By its field, before anything is made of it."""
    with pytest.raises(BadRequest, match=f"^{why}"):
        DIALECTS["openai_completions"].decode(json.dumps(fields).encode(), {})


def test_a_request_that_names_no_limit_gets_the_apis_own() -> None:
    """Sixteen tokens; -1 is as many as there is room for, as other servers have it."""

    def limit(**fields: Any) -> int:
        body = json.dumps({"prompt": "a", **fields}).encode()
        return DIALECTS["openai_completions"].decode(body, {}).sampling.max_tokens

    assert (limit(), limit(max_tokens=None), limit(max_tokens=7)) == (16, 16, 7)
    assert limit(max_tokens=-1) > 1_000_000


async def completed(server: Running, prompt: Any, **fields: Any) -> dict[str, Any]:
    """The first choice and the token counts."""
    told = await server.http.post(PATH, json={"prompt": prompt, "max_tokens": 200, **fields})
    assert told.status_code == 200, told.text
    body = told.json()
    (choice,) = body["choices"]
    return {**choice, **body["usage"], "hit": told.headers["x-mlxdeck-cache"]}


async def test_prompt_and_answer_are_text_alone() -> None:
    """No template, no thinking, no calls, and no blank is lost; a known one is repeated."""
    prompts: list[str] = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        return ANSWER

    async with running(EchoEngine(reply)) as server:
        for echo, hit in ((False, "miss"), (True, "hit")):
            got = await completed(server, [" <user>a\n"], echo=echo)
            assert got["text"] == (" <user>a\n" if echo else "") + ANSWER
            assert (got["finish_reason"], got["hit"]) == ("stop", hit)
            assert (got["prompt_tokens"], got["logprobs"]) == (9, None)
        cut = await completed(server, " <user>a\n", max_tokens=7)
        assert (cut["text"], cut["finish_reason"]) == (ANSWER[:7], "length")
        stopped = await completed(server, "b", stop="<tool_call>")
        assert (stopped["text"], stopped["finish_reason"]) == (
            ANSWER.split("<tool_call>")[0],
            "stop",
        )
    assert prompts == [" <user>a\n"] * 2 + ["b"]


async def test_a_text_and_a_conversation_of_it_are_two_requests() -> None:
    """The key of the answer tells them apart; a longer text finds what is known of it."""
    async with running() as server:
        user = {"role": "user", "content": "hello"}
        chat = {"messages": [user], "max_tokens": 200}
        await server.http.post("/v1/chat/completions", json=chat)
        assert (await completed(server, "hello"))["hit"] == "miss"
        known = await completed(server, "hello, and more")
        assert known["prompt_tokens_details"]["cached_tokens"] == len("hello")
        seen = [line.attrs for line in server.telemetry.lines]
    starts = [each for each in seen if isinstance(each, RequestStart)]
    assert [each.dialect for each in starts] == ["openai", *["openai_completions"] * 2]
    assert [each.n_messages for each in starts] == [1, 1, 1]
    lookups = [each for each in seen if isinstance(each, CacheLookup) and each.cache == "prefix"]
    assert [each.matched_tokens for each in lookups][-1] == len("hello")


async def test_a_stream_adds_up_to_the_answer() -> None:
    """Its usage comes last where it was asked for, and [DONE] behind everything."""
    async with running(EchoEngine(lambda _: ANSWER)) as server:
        asked = {"prompt": "a", "max_tokens": 200, "stream": True, "echo": True}
        for usage in (False, True):
            sent = {**asked, "stream_options": {"include_usage": usage}}
            stream = (await server.http.post(PATH, json=sent)).text
            *blocks, done = [each for each in stream.split("\n\n") if each]
            chunks = [json.loads(each.removeprefix("data: ")) for each in blocks]
            assert done == "data: [DONE]"
            assert {chunk["object"] for chunk in chunks} == {"text_completion"}
            choices = [choice for chunk in chunks for choice in chunk["choices"]]
            assert "".join(choice["text"] for choice in choices) == "a" + ANSWER
            assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["stop"]
            assert [chunk["usage"]["prompt_tokens"] for chunk in chunks if "usage" in chunk] == (
                [1] if usage else []
            )


async def test_a_gap_needs_a_model_that_fills_gaps() -> None:
    """Another one is refused by the field, in the API's own shape; an empty suffix is none."""
    async with running() as server:
        told = await server.http.post(PATH, json={"prompt": "a", "suffix": "b"})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "suffix")
        assert (await completed(server, "a", suffix=""))["prompt_tokens"] == 1
