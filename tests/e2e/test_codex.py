"""The real Codex: tool turns against a model that follows a script, and one with the real model."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ToolUse
from mlxdeck.telemetry.schema.events import RequestStart
from tests.e2e.codex import codex, said
from tests.real import Server
from tests.server.http import Running, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TASK = "Translate note.txt."
PATCH = """*** Begin Patch
*** Update File: note.txt
@@
-The sea is blue.
+La mer est "bleue".
*** End Patch
"""
STEPS: list[tuple[str, ToolUse | None]] = [
    ("I read it first.\n", ToolUse("", "exec_command", {"cmd": "cat note.txt"})),
    ("It is one line.\n", ToolUse("", "apply_patch", {"input": PATCH})),
    ("I check it.\n", ToolUse("", "exec_command", {"cmd": "cat note.txt"})),
    ("Done: it is French now.", None),
]
"""What the model says, by the number of results that it has."""


def reply(prompt: str) -> str:
    """The step that is due."""
    n_results = prompt.count("<tool_response>")
    text, call = STEPS[min(n_results, len(STEPS) - 1)]
    writing = FORMATS["json_tags"].write_call(call) if call else ""
    return f"<think>Step {n_results + 1}.</think>\n\n{text}{writing}"


def url_of(server: Running) -> str:
    """Where it listens."""
    return str(server.http.base_url).rstrip("/")


async def test_a_turn_with_tools_twice(tmp_path: Path) -> None:
    """A command, a patch as a custom tool, a command, the last word; then all of it from the cache.

    Telemetry names the client's session, and the prompt is known from the second request on.
    """
    engine = EchoEngine(reply, context_tokens=1 << 20, prefill_chunk_tokens=1 << 16)
    work = tmp_path / "work"
    work.mkdir()
    note = work / "note.txt"
    async with running(engine, tool_format="json_tags") as server:
        for n_run in range(2):
            note.write_text("The sea is blue.\n")
            told = await asyncio.to_thread(
                codex,
                url_of(server),
                TASK,
                cwd=work,
                home=tmp_path / "home",
                # In its sandbox, the same command takes another number of seconds each time.
                sandbox="danger-full-access",
            )
            assert note.read_text() == 'La mer est "bleue".\n', told
            ran = said(told, "command_execution")
            assert [item["exit_code"] for item in ran] == [0, 0]
            assert "The sea is blue." in ran[0]["aggregated_output"]
            assert [item["status"] for item in said(told, "file_change")] == ["completed"]
            assert said(told, "agent_message")[-1]["text"] == STEPS[-1][0]
            assert "Step 1." in said(told, "reasoning")[0]["text"]
            assert not said(told, "error")
            (done,) = [event for event in told if event["type"] == "turn.completed"]
            assert done["usage"]["input_tokens"] > 0
            ends = await server.ended(len(STEPS) * (n_run + 1))
        results = [end.cache_result for end in ends]
        assert results == [*("miss", "prefix", "prefix", "prefix"), *["exact"] * len(STEPS)]
        lines = (line.attrs for line in server.telemetry.named("request.start"))
        starts = [attrs for attrs in lines if isinstance(attrs, RequestStart)]
        assert len({start.conversation_id for start in starts}) == 2
        assert all(start.dialect == "openai_responses" for start in starts)
        assert all(re.fullmatch(r"[0-9a-f-]{36}", start.conversation_id) for start in starts)
        shares = [end.cached_tokens / end.input_tokens for end in ends]
        assert min(shares[1:]) > 0.9, shares


AGENT_TASK = "Only say hi."


def with_an_agent(prompt: str) -> str:
    """Start an agent by a tool in a namespace, wait for it, end."""
    if prompt.endswith(f"{AGENT_TASK}</user><assistant>"):
        return "Hi from below."
    n_results = prompt.count("<tool_response>")
    started = re.findall(r'"agent_id":"([^"]+)"', prompt)
    waits = {"targets": started, "timeout_ms": 20_000}
    calls = [
        ToolUse("", "multi_agent_v1__spawn_agent", {"message": AGENT_TASK}),
        ToolUse("", "multi_agent_v1__wait_agent", waits),
    ]
    return FORMATS["json_tags"].write_call(calls[n_results]) if n_results < 2 else "It said hi."


async def test_an_agent_of_its_own(tmp_path: Path) -> None:
    """Calls come back in their namespace; telemetry tells the agent from who started it."""
    engine = EchoEngine(with_an_agent, context_tokens=1 << 20, prefill_chunk_tokens=1 << 16)
    async with running(engine, tool_format="json_tags") as server:
        told = await asyncio.to_thread(
            codex, url_of(server), TASK, cwd=tmp_path, home=tmp_path / "home"
        )
        calls = said(told, "collab_tool_call")
        assert [call["tool"] for call in calls] == ["spawn_agent", "wait"], told
        (state,) = calls[-1]["agents_states"].values()
        assert state == {"status": "completed", "message": "Hi from below."}
        lines = (line.attrs for line in server.telemetry.named("request.start"))
        starts = [attrs for attrs in lines if isinstance(attrs, RequestStart)]
        assert len({start.conversation_id for start in starts}) == 1
        assert len({start.agent_id for start in starts}) == 2


async def test_a_window_that_is_too_short_is_told_in_words(tmp_path: Path) -> None:
    """The client knows the error by its code, and doesn't try again."""
    async with running(EchoEngine(context_tokens=2_000)) as server:
        home = tmp_path / "home"
        told = await asyncio.to_thread(codex, url_of(server), TASK, cwd=tmp_path, home=home)
        assert "context window" in told[-1]["error"]["message"]
        assert len(await server.ended(1)) == 1


async def test_pings_keep_the_client_waiting(tmp_path: Path) -> None:
    """It gives up on a stream without events; the time a long prompt takes must not be one."""
    engine = EchoEngine(
        lambda _: "Here.", context_tokens=1 << 20, prefill_chunk_tokens=1 << 11, step_s=0.25
    )
    async with running(engine, ping_s=0.3) as server:
        waiting = ["--config", "model_providers.mlxdeck.stream_idle_timeout_ms=1000"]
        told = await asyncio.to_thread(
            codex, url_of(server), TASK, *waiting, cwd=tmp_path, home=tmp_path / "home"
        )
        (end,) = await server.ended(1)
        assert said(told, "agent_message")[-1]["text"] == "Here."
        assert end.duration_s > 1.5


def test_the_real_model_breaks_nothing(server: Server, tmp_path: Path) -> None:
    """A model of 135M gets all that the client sends, and answers as well as it can."""
    told = codex(
        server.url,
        "Say hello.",
        *("--disable", "multi_agent", "--disable", "goals"),
        *("--config", "skills.include_instructions=false"),
        cwd=tmp_path,
        home=tmp_path / "home",
        timeout_s=500,
    )
    assert told[-1]["type"] == "turn.completed", told
