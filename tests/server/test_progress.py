"""`/v1/status` says of each running request what it waits for, and how far it is."""

from __future__ import annotations

import asyncio
from typing import Any

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from tests.server.http import Running, body, running

CHUNK_TOKENS = 64


async def seen(server: Running, *states: str) -> list[dict[str, Any]]:
    """The requests, once they are in these states."""
    found: list[dict[str, Any]] = []
    for _ in range(1000):
        found = (await server.http.get("/v1/status")).json()["requests"]
        # The engine takes note of whoever comes in its next step.
        is_known = all(each.get("position", 1) for each in found)
        if is_known and sorted(str(each.get("state")) for each in found) == sorted(states):
            return sorted(found, key=lambda each: str(each["state"]))
        await asyncio.sleep(0.005)
    raise AssertionError(found)


async def test_what_runs_and_what_waits_is_told() -> None:
    """Written, read in part, and waiting for a place, with its position."""
    engine = EchoEngine(step_s=0.01, prefill_chunk_tokens=CHUNK_TOKENS)
    async with running(engine, max_batch=2, prefill_chunk_tokens=CHUNK_TOKENS) as server:
        asked = []
        for n, (text, states) in enumerate(
            (
                ("a" * 3_000, ("decode",)),
                ("b" * 60_000, ("decode", "prefill")),
                ("c", ("decode", "prefill", "wait")),
                ("d", ("decode", "prefill", "wait", "wait")),
            )
        ):
            sent = body(text, max_tokens=50_000, metadata={"user_id": f"{n}"})
            asked.append(asyncio.create_task(server.http.post("/v1/messages", json=sent)))
            found = await seen(server, *states)
        decode, prefill, first, second = found
        assert decode["read_tokens"] == decode["prompt_tokens"] > 3_000
        assert decode["output_tokens"] > 0
        assert prefill["read_tokens"] < prefill["prompt_tokens"] > 60_000
        assert prefill["output_tokens"] == 0
        assert [first["position"], second["position"]] == [1, 2]
        assert first["waits_for"] == "a place in the batch"
        assert "waits_for" not in decode
        assert all(each["state_s"] >= 0 for each in found)
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
