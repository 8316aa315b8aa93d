"""opencode and Continue: a turn with a tool against a script, and a plain one on the real model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ToolUse
from mlxdeck.telemetry.schema.events import RequestStart, ToolCall
from tests.e2e.coding_agents import continue_cli, opencode, said
from tests.e2e.test_history import picture
from tests.real import Server
from tests.server.http import running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DIALECTS = {"chat": "openai", "messages": "anthropic"}
apis = pytest.mark.parametrize("api", DIALECTS)
TASK = "Read note.txt, and say what stands in it."
FOUND = "It says that the sea is blue."


def script(folder: Path, tool: str, argument: str) -> EchoEngine:
    """A model that reads the note with a client's own tool, then says what it has read."""

    def reply(prompt: str) -> str:
        if "The sea is blue." in prompt:
            return FOUND
        if TASK in prompt and f'"{tool}"' in prompt:
            call = ToolUse("", tool, {argument: str(folder / "note.txt")})
            return f"I read it.\n{FORMATS['json_tags'].write_call(call)}"
        return "A note about the sea"

    return EchoEngine(reply, context_tokens=1 << 20, prefill_chunk_tokens=1 << 16)


async def turn(engine: EchoEngine, ask: Callable[[str], Any]) -> tuple[Any, list[Any]]:
    """What a client makes of it, and what telemetry says."""
    async with running(engine, tool_format="json_tags") as server:
        url = str(server.http.base_url).rstrip("/")
        found = await asyncio.to_thread(ask, url)
        starts = sum(line.event == "request.start" for line in server.telemetry.lines)
        assert {end.outcome for end in await server.ended(starts)} == {"ok"}
        return found, [line.attrs for line in server.telemetry.lines]


def check(seen: list[Any], api: str, tool: str) -> None:
    """One call that fits its schema, over the API that was asked for."""
    (call,) = [each for each in seen if isinstance(each, ToolCall)]
    assert (call.name, call.parse_ok, call.schema_valid) == (tool, True, True)
    dialects = {each.dialect for each in seen if isinstance(each, RequestStart)}
    assert dialects == {DIALECTS[api]}


@apis
async def test_opencode_reads_a_file(api: str, tmp_path: Path) -> None:
    """Its own tool runs, and the result comes back to the model."""
    (tmp_path / "note.txt").write_text("The sea is blue.\n")
    engine = script(tmp_path, "read", "filePath")
    events, seen = await turn(
        engine, lambda url: opencode(url, api, TASK, cwd=tmp_path, allowed=("read",))
    )
    (used,) = [each["part"] for each in events if each["type"] == "tool_use"]
    assert (used["tool"], used["state"]["status"]) == ("read", "completed")
    assert said(events).endswith(FOUND)
    check(seen, api, "read")
    last = [each["part"] for each in events if each["type"] == "step_finish"][-1]
    assert last["tokens"]["cache"]["read"] > last["tokens"]["input"] > 0


@apis
async def test_a_picture_that_opencode_reads_ends_no_session(api: str, tmp_path: Path) -> None:
    """Also where its settings say that the model sees pictures, so that it sends them."""
    (tmp_path / "red.png").write_bytes(picture())

    def reply(prompt: str) -> str:
        if "left out, because this model reads text only" in prompt:
            return "I can't see it."
        if "red.png" in prompt and '"read"' in prompt:
            call = ToolUse("", "read", {"filePath": str(tmp_path / "red.png")})
            return FORMATS["json_tags"].write_call(call)
        return "A picture"

    engine = EchoEngine(reply, context_tokens=1 << 20, prefill_chunk_tokens=1 << 16)
    model = {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
    events, _ = await turn(
        engine,
        lambda url: opencode(
            url, api, "What is in red.png?", cwd=tmp_path, allowed=("read",), model=model
        ),
    )
    assert said(events).endswith("I can't see it.")


@apis
async def test_continue_reads_a_file(api: str, tmp_path: Path) -> None:
    """The same with its command line."""
    (tmp_path / "note.txt").write_text("The sea is blue.\n")
    engine = script(tmp_path, "Read", "filepath")
    answer, seen = await turn(
        engine, lambda url: continue_cli(url, api, TASK, cwd=tmp_path, allowed=("Read",))
    )
    assert answer == FOUND
    check(seen, api, "Read")


QUESTION = "What is the capital of France?"


@apis
def test_opencode_on_the_real_model(server: Server, api: str, tmp_path: Path) -> None:
    """A plain turn, and the same again from the exact cache."""

    def ask() -> str:
        return said(opencode(server.url, api, QUESTION, cwd=tmp_path, output_tokens=64))

    before = len(server.ended())
    first, second = ask(), ask()
    assert "Paris" in first
    assert second == first
    ends = server.ended(before + 2)[before:]
    # It asks for a title beside the question, and leaves that request when it ends before.
    assert {end.outcome for end in ends} <= {"ok", "cancelled"}
    assert sum(end.outcome == "ok" for end in ends) >= 2
    assert any(end.cache_result == "exact" for end in ends)


@apis
def test_continue_on_the_real_model(server: Server, api: str, tmp_path: Path) -> None:
    """A plain turn."""
    before = len(server.ended())
    answer = continue_cli(server.url, api, QUESTION, cwd=tmp_path, output_tokens=48)
    assert answer.strip()
    ends = server.ended(before + 1)[before:]
    # The title that opencode asked for before may end now.
    assert {end.outcome for end in ends} <= {"ok", "cancelled"}
