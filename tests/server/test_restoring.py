"""States come back from disk in parts: streams keep their pace, and only what lacks is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.api import Reads, StatePart, Step
from mlxdeck.server.backends.local.engine.echo import EchoEngine, EchoStates
from mlxdeck.server.backends.local.kv import runs
from tests.server.http import running, until
from tests.server.test_faults import backend_of

LONG = "".join(f"{n} is a number. " for n in range(600))
"""Some forty blocks of the echo engine, whose tokens are bytes."""


class NotedStates(EchoStates):
    """Notes what is made of bytes."""

    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    def restore(self, about: str, data: bytes) -> StatePart:
        """A block."""
        self._noted.append("block")
        return super().restore(about, data)


class NotedEngine(EchoEngine):
    """Notes its steps."""

    def __init__(self, noted: list[str], step_s: float = 0.0) -> None:
        super().__init__(step_s=step_s)
        self.noted = noted
        self.states = NotedStates(noted)

    def step(self, reads: Reads = None) -> list[Step]:
        """One more."""
        if self._running:
            self.noted.append("step")
        return super().step(reads)


async def test_a_stream_goes_on_while_a_long_state_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts there is a step, however many parts there are."""
    monkeypatch.setattr(runs, "READ_BYTES", 4_000)
    async with running(home=tmp_path, exact_cache_entries=0) as server:
        await server.ask("hello", system=LONG)
    noted: list[str] = []
    engine = NotedEngine(noted, step_s=0.001)
    async with running(engine, home=tmp_path, exact_cache_entries=0) as server:
        streaming = asyncio.create_task(server.ask("x" * 4_000, max_tokens=4_000))
        await until(lambda: "step" in noted)
        noted.clear()
        asked = await server.ask("again", system=LONG)
        assert asked.json()["usage"]["cache_read_input_tokens"] > len(LONG)
        streaming.cancel()
    told = " ".join(noted[: len(noted) - noted[::-1].index("block")])
    parts = [part.split() for part in told.split("step") if part.strip()]
    n_blocks = sum(map(len, parts))
    assert n_blocks > 30
    # Four kilobytes are some four blocks of this engine.
    assert max(map(len, parts)) <= 5
    assert len(parts) >= n_blocks // 5


async def test_two_conversations_share_what_is_restored(tmp_path: Path) -> None:
    """What one has brought back, the other finds in RAM; only its own end is read."""
    async with running(home=tmp_path, exact_cache_entries=0) as server:
        for text in ("one", "two"):
            await server.ask(text * 200, system=LONG)
            # Each is written on its own.
            await backend_of(server).kv.write_all(10.0)
    noted: list[str] = []
    async with running(NotedEngine(noted), home=tmp_path, exact_cache_entries=0) as server:
        for text, at_most in (("one", 60), ("two", 6)):
            noted.clear()
            asked = await server.ask(text * 200 + "!", system=LONG)
            assert asked.json()["usage"]["cache_read_input_tokens"] > len(LONG) + 600
            assert 0 < noted.count("block") <= at_most
        # One report: the last answer's own state may be stored meanwhile.
        report = (await server.http.get("/v1/cache")).json()["prefix"]
        # Two conversations, and what was asked of each before.
        assert 2 * report["bytes"] < report["logical_bytes"] < 4 * report["bytes"]
        assert backend_of(server).kv.check_integrity() == [] and report["faults"] == 0
