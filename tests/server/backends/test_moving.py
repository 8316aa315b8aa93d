"""A conversation that begins with the local model, goes on elsewhere, and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.making import make_backend
from mlxdeck.server.config.settings import Settings
from mlxdeck.telemetry.schema.events import RequestStart
from tests.server.backends.upstream.scripted import message, scripted, text
from tests.server.http import running

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
TOOL = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {}}}}
CALL = '{"name": "Read", "arguments": {"path": "a.png"}}'
SAID = f"<think>Hm.</think>I look. <tool_call>{CALL}</tool_call>"
ENABLED = {"type": "enabled", "budget_tokens": 2000}
SESSION = json.dumps({"session_id": "3b1f7d52-0000-4000-8000-1234567890ab"})


async def test_a_conversation_moves_and_comes_back(tmp_path: Path) -> None:
    """One session: ids of calls and pictures reach the other server as they are, thoughts that it
    did not sign don't, and the local model is told of what it can't see.
    """
    async with scripted(lambda _: [message(text("A red dot."))]) as other:
        (tmp_path / "mlxdeck.toml").write_text(
            f'[backends.cloud]\nkind = "anthropic"\nurl = "{other.url}"\n'
            '[aliases]\n"claude-*" = "cloud"\n'
        )
        settings = Settings.load({"engine": "echo"}, {}, tmp_path)
        engine = EchoEngine(lambda _: SAID)
        backend = make_backend(settings, lambda _: LocalBackend(settings, engine))
        async with running(backend=backend) as server:
            turns: list[Any] = [{"role": "user", "content": "what is in a.png?"}]

            async def ask(model: str) -> tuple[dict[str, Any], str]:
                asked = {"model": model, "max_tokens": 4000, "messages": turns, "tools": [TOOL]}
                asked |= {"thinking": ENABLED, "metadata": {"user_id": SESSION}}
                answer = await server.http.post("/v1/messages", json=asked)
                assert answer.status_code == 200, answer.text
                turns.append({"role": "assistant", "content": answer.json()["content"]})
                return answer.json(), answer.headers["x-mlxdeck-backend"]

            first, name = await ask("small")
            assert name == "local"
            kinds = [block["type"] for block in first["content"]]
            assert kinds == ["thinking", "text", "tool_use"]
            call = first["content"][2]
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            result = {"type": "tool_result", "tool_use_id": call["id"]}
            picture = {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}
            turns.append({"role": "user", "content": [{**result, "content": [picture]}]})
            second, name = await ask("claude-sonnet-4-5")
            assert (name, second["content"][0]["text"]) == ("cloud", "A red dot.")
            turns.append({"role": "user", "content": "and now?"})
            engine.reply = lambda prompt: "I was told." if "[image (image/png" in prompt else "?"
            third, name = await ask("small")
            assert (name, third["content"][0]["text"]) == ("local", "I was told.")
            starts = [line.attrs for line in server.telemetry.lines]
    (sent,) = [asked.body for asked in other.answered]
    assert sent["model"] == "claude-sonnet-4-5"
    assert sent["messages"][1]["content"] == first["content"][1:]
    assert sent["messages"][2] == turns[2] and "thinking" not in sent
    told = [start for start in starts if isinstance(start, RequestStart)]
    assert {start.conversation_id for start in told} == {"3b1f7d52-0000-4000-8000-1234567890ab"}
    assert [start.history_notes for start in told] == [
        (),
        ("left_out thinking 1", "left_out thinking_enabled 1"),
        ("replaced image 1",),
    ]


async def test_a_picture_of_the_users_needs_a_backend_that_reads_it(tmp_path: Path) -> None:
    """The local model refuses it as ever; by name, or by a fallback, another one gets it whole."""
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    turn = {"role": "user", "content": [{"type": "image", "source": source}]}
    async with scripted(lambda _: [message(text("A red dot."))]) as other:
        backends = {"cloud": {"kind": "anthropic", "url": other.url}}
        told = []
        for fallback, model in (("", "x"), ("", "cloud/c"), ("cloud/d", "x")):
            flags = {"engine": "echo", "fallback": fallback}
            environ = {"MLXDECK_BACKENDS": json.dumps(backends)}
            settings = Settings.load(flags, environ, tmp_path)
            local = LocalBackend(settings, EchoEngine())
            backend = make_backend(settings, {False: local}.__getitem__)
            async with running(backend=backend) as server:
                asked = {"model": model, "max_tokens": 9, "messages": [turn]}
                answer = await server.http.post("/v1/messages", json=asked)
                (end,) = await server.ended(1)
                told.append((answer.status_code, end.backend, end.fallback_reason))
                assert ("Could not process image" in answer.text) == (answer.status_code == 400)
    assert told == [(400, "local", ""), (200, "cloud", ""), (200, "cloud", "unreadable")]
    sent = [asked.body for asked in other.answered]
    assert [each["model"] for each in sent] == ["c", "d"]
    assert [each["messages"] for each in sent] == [[turn]] * 2
