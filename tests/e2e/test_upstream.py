"""The real client and SDKs with another real server behind: a second mlxdeck, and mlx-lm's own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from mlxdeck.telemetry.schema.events import ToolCall
from tests.e2e.client import claude
from tests.real import Server, free_port, get, models_home, serving
from tests.server.backends.upstream.scripted import (
    Asked,
    chunks,
    in_front_of,
    message,
    scripted,
    text,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUESTION = "What is the capital of France?"
QUESTIONS = ("What is the capital of France? Answer with one word.", "Say hello.", "Say yes.")
RULE = "You answer in one short sentence."
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
PIXEL = "iVBORw0KGgo="


@pytest.fixture(scope="module", params=["auto", "anthropic", "openai"])
def front(server: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server in front of the one with the model, which it asks by one API or by both."""
    with serving("--upstream", server.url, "--upstream-dialect", request.param) as running:
        yield running


@contextmanager
def mlx_lm_server() -> Iterator[str]:
    """mlx-lm's own server, with the same model."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    model = models_home() / "smollm2-135m-instruct"
    program = Path(sys.executable).with_name("mlx_lm.server")
    command = [program, "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"HF_HUB_CACHE": str(models_home()), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                get(f"{url}/health")
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def runs_twice(front: Server, cwd: Path) -> dict[str, Any]:
    """Run the client twice; the second run has the first one's answer at once."""
    for question in QUESTIONS:
        small = ["--bare", "-p", question, "--tools", "", "--system-prompt", RULE]
        first = claude(front.url, *small, cwd=cwd)
        if not first["is_error"]:
            break
    assert first["is_error"] is False
    hits = get(f"{front.url}/health")["cache"]["hits"]
    second = claude(front.url, *small, cwd=cwd)
    assert second["result"] == first["result"]
    assert get(f"{front.url}/health")["cache"]["hits"] == hits + 1
    return first


def test_the_client_gets_an_answer_and_the_same_one_at_once(front: Server, tmp_path: Path) -> None:
    """By a second mlxdeck, asked by either API; the server in front loads no model."""
    first = runs_twice(front, tmp_path)
    assert first["usage"]["output_tokens"] > 0
    ends = front.ended(2)
    asked, known = ends[-2:]
    assert (asked.cache_result, asked.outcome, known.cache_result) == ("miss", "ok", "exact")
    assert asked.provider in ("anthropic", "openai")
    assert (asked.queue_s, asked.prefill_s) == (None, None)
    maps = Path(f"/proc/{front.process.pid}/maps")
    if maps.exists():
        assert "libmlx" not in maps.read_text()


def test_both_sdks_and_all_three_apis(front: Server) -> None:
    """Texts, streams, calls and responses; a picture isn't refused in front of the model."""
    sdk = anthropic.Anthropic(base_url=front.url, api_key="dummy", max_retries=0)
    with sdk.messages.stream(model="m", max_tokens=32, messages=ASKED) as stream:
        final = stream.get_final_message()
    assert final.usage.output_tokens > 0
    called = sdk.messages.create(
        model="m",
        max_tokens=64,
        messages=ASKED,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
    )
    assert called.stop_reason == "tool_use"
    other = openai.OpenAI(base_url=f"{front.url}/v1", api_key="dummy", max_retries=0)
    chat = other.chat.completions.create(model="m", max_tokens=32, messages=ASKED)
    assert chat.choices[0].message.content
    assert chat.usage is not None and chat.usage.prompt_tokens > 0
    response = other.responses.create(model="m", max_output_tokens=32, input=QUESTION)
    assert response.output_text
    call = [line.attrs for line in front.events() if isinstance(line.attrs, ToolCall)][-1]
    assert (call.name, call.schema_valid) == ("get_weather", True)
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    seen: list[Any] = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    with pytest.raises(anthropic.BadRequestError, match="Could not process image"):
        sdk.messages.create(model="m", max_tokens=8, messages=seen)


def test_a_client_that_leaves_cancels_the_work_behind(front: Server, server: Server) -> None:
    """The second server's telemetry says so too."""
    before = cancelled(server)
    sdk = anthropic.Anthropic(base_url=front.url, api_key="dummy", max_retries=0)
    long: list[Any] = [{"role": "user", "content": "Tell a very long story. " * 5}]
    with sdk.messages.stream(model="m", max_tokens=2000, messages=long) as stream:
        next(iter(stream.text_stream))
    # The end of an earlier request may be written meanwhile.
    deadline_s = time.monotonic() + 30
    while cancelled(server) == before and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert (cancelled(server), cancelled(front)) == (before + 1, 1)


def cancelled(server: Server) -> int:
    """How many requests have ended because their client left."""
    return sum(end.outcome == "cancelled" for end in server.ended())


def test_mlx_lms_server_answers_the_client(tmp_path: Path, server: Server) -> None:
    """By OpenAI's API; the second run is answered from the cache."""
    assert server.url
    with (
        mlx_lm_server() as url,
        serving("--upstream", "mlx_lm", "--upstream-url", url) as front,
    ):
        runs_twice(front, tmp_path)
        asked = front.ended(2)[-2]
        assert (asked.provider, asked.backend) == ("openai", "mlx_lm")
        other = openai.OpenAI(base_url=f"{front.url}/v1", api_key="dummy", max_retries=0)
        chat = other.chat.completions.create(model="m", max_tokens=32, messages=ASKED)
        assert chat.choices[0].message.content


def test_an_upstream_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The client is told in its own API; health and the ready line say why."""
    with serving("--upstream", f"http://127.0.0.1:{free_port()}") as front:
        assert any("can't be reached" in line for line in front.output)
        sdk = anthropic.Anthropic(base_url=front.url, api_key="dummy", max_retries=0)
        with pytest.raises(anthropic.InternalServerError, match="can't be reached"):
            sdk.messages.create(model="m", max_tokens=8, messages=ASKED)
        (end,) = front.ended(1)
        assert (end.outcome, end.status) == ("error", 502)


def scripted_turn(asked: Asked, path: str) -> list[bytes]:
    """Reads a file, and then says what is in it; by the API that is asked."""
    arguments = json.dumps({"file_path": path})
    if asked.path.startswith("/v1/chat"):
        if "zebra" in json.dumps(asked.body["messages"][-1]):
            return [chunks({"content": "It is zebra."})]
        call = {"index": 0, "id": "c1", "function": {"name": "Read", "arguments": arguments}}
        return [chunks({"reasoning_content": "Hm."}, {"tool_calls": [call]}, reason="tool_calls")]
    if "zebra" in json.dumps(asked.body["messages"][-1]):
        return [message(text("It is zebra."))]
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    start = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": arguments}
    return [message((thought, signed), (start, delta), reason="tool_use")]


@pytest.mark.parametrize("dialect", ["anthropic", "openai"])
async def test_a_turn_with_a_tool_goes_through(tmp_path: Path, dialect: str) -> None:
    """The client's own body, its signatures included; the second run comes from the cache."""
    (tmp_path / "a.txt").write_text("the word is zebra\n")
    script = partial(scripted_turn, path=str(tmp_path / "a.txt"))
    tools = ["--tools", "Read", "--allowedTools", "Read"]
    async with scripted(script) as up, in_front_of(up.url, dialect=dialect) as server:
        run = partial(claude, server.service.settings.url, "--bare", "-p", "Read a.txt.", *tools)
        for _ in range(2):
            report = await asyncio.to_thread(run, cwd=tmp_path)
            assert (report["is_error"], report["result"]) == (False, "It is zebra.")
        assert len(up.answered) == 2
        ends = await server.ended(4)
        assert [end.cache_result for end in ends] == ["miss", "miss", "exact", "exact"]
        if dialect == "anthropic":
            assert "c2lnbmVk" in json.dumps(up.answered[1].body)
            assert up.answered[1].headers["anthropic-beta"]
