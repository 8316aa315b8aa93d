"""Clients that give up and ask again at once, as coding agents do: the second try is answered."""

from __future__ import annotations

import asyncio
from random import Random

import httpx2
import pytest

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from tests.server.http import Running, running


async def abort(server: Running, prompt: str, after_s: float, *, stream: bool) -> None:
    """Ask, and leave before the answer is complete."""
    asking = asyncio.create_task(server.ask(prompt, stream=stream))
    await asyncio.sleep(after_s)
    asking.cancel()
    await asyncio.wait([asking])


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_asked_again_is_answered(stream: bool) -> None:
    """At whatever moment the first try ends; telemetry says what became of each."""
    random = Random(7)
    prompts = [f"pair {n} " + "x" * 30 for n in range(60)]
    async with running(EchoEngine(step_s=0.001)) as server:

        async def pair(prompt: str) -> httpx2.Response:
            await abort(server, prompt, random.random() * 0.15, stream=stream)
            return await server.ask(prompt)

        for start in range(0, len(prompts), 6):
            asked = prompts[start : start + 6]
            for prompt, reply in zip(asked, await asyncio.gather(*map(pair, asked)), strict=True):
                assert reply.status_code == 200, reply.text
                assert reply.json()["content"][0]["text"] == prompt
        ends = await server.ended(len(server.telemetry.named("request.start")))
        assert {(end.outcome, end.status) for end in ends} <= {("ok", 200), ("cancelled", 499)}
        assert sum(end.outcome == "ok" for end in ends) >= len(prompts)
        backend = server.service.backend
        assert isinstance(backend, LocalBackend)
        assert backend.kv.states.ram.n_leases == 0 and backend.status.load.active == 0
