"""KV states in 8 bits: told, kept over a restart, and not used where exact ones are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.kv import cooling, write_queue
from mlxdeck.server.backends.local.kv.blocks import BLOCK_TOKENS
from mlxdeck.telemetry.schema.events import CacheLookup
from tests.server.backends.local.kv.states import SmallStates
from tests.server.http import Running, running, until

SYSTEM = "You are terse. " * 40
N_BLOCKS = len(SYSTEM) // BLOCK_TOKENS + 1
"""A block ends where the system prompt does; what comes behind it is exact."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are quiet at once."""
    for module in (cooling, write_queue):
        monkeypatch.setattr(module, "QUIET_S", 0.0)


def engine() -> EchoEngine:
    """One whose blocks can be quantised."""
    made = EchoEngine()
    made.states = SmallStates()
    return made


async def cache(server: Running, tier: str = "prefix") -> dict[str, Any]:
    """What is said of a tier."""
    found: dict[str, Any] = (await server.http.get("/v1/cache")).json()[tier]
    return found


async def test_states_are_quantised_once_and_stay_so(tmp_path: Path) -> None:
    """It is told in bytes; the next turn and the next server go on from them."""
    first = engine()
    async with running(first, home=tmp_path, kv_8bit=True) as server:
        await server.ask("hello", system=SYSTEM)
        await until(lambda: server.service.load.prefix_quantized_bytes > 0)
        told = await cache(server)
        lookups = [line.attrs for line in server.telemetry.named("cache.lookup")]
        (n_shared,) = {each.shared_tokens for each in lookups if isinstance(each, CacheLookup)} - {
            0
        }
        assert told["quantized_bytes"] == n_shared * 2 and n_shared > len(SYSTEM)
        status = (await server.http.get("/v1/status")).json()
        assert status["memory"]["prefix_cache_quantized_bytes"] == told["quantized_bytes"]
        metrics = (await server.http.get("/metrics")).text
        assert f"mlxdeck_prefix_cache_quantized_bytes {told['quantized_bytes']}.0" in metrics
        again = (await server.ask("and you", system=SYSTEM)).json()
        assert again["usage"]["cache_read_input_tokens"] > len(SYSTEM)
        assert first.states.n_tried == N_BLOCKS  # type: ignore[attr-defined]
    second = engine()
    async with running(second, home=tmp_path, kv_8bit=True) as server:
        other = (await server.ask("who are you", system=SYSTEM)).json()
        assert other["usage"]["cache_read_input_tokens"] > len(SYSTEM)
        assert (await cache(server))["quantized_bytes"] == n_shared * 2
        assert not second.states.n_tried  # type: ignore[attr-defined]


async def test_who_wants_exact_states_reads_no_others(tmp_path: Path) -> None:
    """Off is the default, and what was stored in 8 bits is not used then."""
    async with running(engine(), home=tmp_path, kv_8bit=True) as server:
        await server.ask("hello", system=SYSTEM)
        await until(lambda: server.service.load.prefix_quantized_bytes > 0)
    exact = engine()
    async with running(exact, home=tmp_path) as server:
        answer = (await server.ask("who are you", system=SYSTEM)).json()
        assert not answer["usage"]["cache_read_input_tokens"]
        assert exact.n_prefilled_tokens > len(SYSTEM)
        await until(lambda: server.service.load.prefix_bytes > 0)
        assert (await cache(server))["quantized_bytes"] == 0
        assert not exact.states.n_tried  # type: ignore[attr-defined]
