"""The official Anthropic SDK, and other clients' habits, against the real model."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest
from anthropic.types import MessageParam

from tests.real import Server, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ASKED: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
# The SDK has no such parameter any more; servers still take it.
GREEDY = {"temperature": 0}


@pytest.fixture
def sdk(server: Server) -> anthropic.Anthropic:
    """A client of the official SDK."""
    return anthropic.Anthropic(base_url=server.url, api_key="dummy", max_retries=0)


def test_streaming_counting_and_plain_agree(sdk: anthropic.Anthropic) -> None:
    """The SDK accumulates a stream into the message that the plain call gives; counts are equal."""
    plain = sdk.messages.create(model="local", max_tokens=64, messages=ASKED, extra_body=GREEDY)
    with sdk.messages.stream(
        model="local", max_tokens=64, messages=ASKED, extra_body=GREEDY
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in text
    assert final.stop_reason == plain.stop_reason == "end_turn"
    assert [b.to_dict() for b in final.content] == [b.to_dict() for b in plain.content]
    counted = sdk.messages.count_tokens(model="local", messages=ASKED).input_tokens
    for usage in (plain.usage, final.usage):
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


def test_a_stop_sequence_is_reported(sdk: anthropic.Anthropic) -> None:
    """The answer ends before it, and says which it was."""
    message = sdk.messages.create(
        model="local", max_tokens=64, messages=ASKED, extra_body=GREEDY, stop_sequences=["Paris"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Paris")
    assert all("Paris" not in getattr(block, "text", "") for block in message.content)


def test_bad_requests_are_the_sdks_own_errors(sdk: anthropic.Anthropic) -> None:
    """A malformed request raises BadRequestError that names the field."""
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        sdk.messages.create(
            model="local", max_tokens=5, messages=ASKED, extra_body={"temperature": 7}
        )


@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_a_cancelled_request_is_not_sent_again(server: Server, api: str) -> None:
    """By the name that the client gave it; both SDKs would retry most errors."""
    name = f"{api}-{time.monotonic_ns()}"

    def ask() -> str:
        long = [{"role": "user", "content": f"Tell a story about {name}. " * 100}]
        headers = {"x-request-id": name}
        try:
            if api == "anthropic":
                with anthropic.Anthropic(base_url=server.url, api_key="dummy") as mine:
                    said: Any = long
                    mine.messages.create(
                        model="local", max_tokens=4000, messages=said, extra_headers=headers
                    )
            else:
                with openai.OpenAI(base_url=f"{server.url}/v1", api_key="dummy") as other:
                    said = long
                    other.chat.completions.create(
                        model="local", messages=said, extra_headers=headers
                    )
        except (anthropic.APIStatusError, openai.APIStatusError) as error:
            return f"{error.status_code} {error.request_id}"
        return "answered"

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        while name not in [
            each["client_id"] for each in get(f"{server.url}/v1/status")["requests"]
        ]:
            time.sleep(0.01)
        request = urllib.request.Request(f"{server.url}/v1/requests/{name}/cancel", b"")
        with urllib.request.urlopen(request, timeout=30) as response:
            (own,) = json.load(response)["cancelled"]
        assert asking.result(60) == f"499 {own if api == 'anthropic' else name}"
    assert server.end_of(own).outcome == "cancelled"


def test_models_tell_their_window(sdk: anthropic.Anthropic) -> None:
    """In the list, with or without pages, and alone; another one is the SDK's own error."""
    (listed,) = sdk.models.list()
    assert list(sdk.models.list(limit=1)) == [listed]
    assert list(sdk.models.list(after_id=listed.id)) == []
    assert sdk.models.retrieve(listed.id) == listed
    assert (listed.type, listed.lifecycle, listed.max_input_tokens) == ("model", "active", 8192)
    with pytest.raises(anthropic.NotFoundError, match="no-such/model"):
        sdk.models.retrieve("no-such/model")


def body(prompt: str, **fields: object) -> bytes:
    """A request as bytes."""
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"model": "m", "max_tokens": 400, "messages": messages, **fields}).encode()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(server: Server, stream: bool) -> None:
    """Closing the connection in the middle of a long prefill ends the work within a chunk."""
    parts, status = urlsplit(server.url), f"{server.url}/v1/status"
    sent = body("A long text follows. " * 300 + str(stream), stream=stream)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        # One that is not read yet leaves no trace.
        while not (
            own := [each["id"] for each in get(status)["requests"] if "read_tokens" in each]
        ):
            time.sleep(0.01)
    assert server.end_of(own[0]).outcome == "cancelled"
    while get(status)["active"]:
        time.sleep(0.01)


def test_health_answers_while_eight_generations_run(server: Server) -> None:
    """Polled every 20 ms, it never goes missing for as long as a step of the model takes."""
    stop = threading.Event()
    missed: list[int] = []

    def poll() -> None:
        due_s = time.monotonic()
        while not stop.is_set():
            due_s += 0.02
            get(f"{server.url}/health")
            behind = int(max(0.0, time.monotonic() - due_s) / 0.02)
            missed.append(behind)
            due_s += behind * 0.02
            time.sleep(max(0.0, due_s - time.monotonic()))

    def generate(n: int) -> int:
        asked = body(f"Tell a story about the number {n}. " * 30, max_tokens=24)
        request = urllib.request.Request(f"{server.url}/v1/messages", asked)
        with urllib.request.urlopen(request, timeout=300) as response:
            return int(json.load(response)["usage"]["output_tokens"])

    poller = threading.Thread(target=poll)
    poller.start()
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(generate, range(8)))
    stop.set()
    poller.join()
    assert all(tokens)
    print(f"{sum(missed)} of {len(missed) + sum(missed)} polls missed, {max(missed)} in a row")
    # A blocked loop misses a whole prefill chunk, which is 100 polls and more on this model.
    assert max(missed) < 25
    assert len(missed) > 50


def test_every_scenario_of_check_passes(server: Server) -> None:
    """`mlxdeck check` is satisfied with its own server."""
    from mlxdeck.server.ops.conformance import run

    lines: list[str] = []
    assert run(server.url, "", lines.append) == 0, "\n".join(lines)
    print("\n".join(lines))
