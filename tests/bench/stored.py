"""Bytes that ten conversations over one system prompt take in the KV cache, and on disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.launch import make_engine
from tests.bench.equality import Recorder
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.server.http import running

N_CONVERSATIONS = 10
SYSTEM = "You are one of ten sailors, and you know the sea and its ships. " * 140
MODELS = ("small", "deepseek_v3_plain")
"""Keys and values of every token, and a latent state of every token."""


def stored_bytes() -> None:
    """Of models whose states grow with every token."""
    load_fast_blas()
    from tests.bench.equal import model_folder

    heading(f"KV states of {N_CONVERSATIONS} conversations over one system prompt")
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            folder = model_folder(name, Path(scratch))
            held, ideal = asyncio.run(measured(folder))
            print(f"{name}: {held:,} bytes are held; one copy of each token takes {ideal:,.0f}")
            figure("stored_bytes", held / ideal)


async def measured(folder: Path, system: str = SYSTEM) -> tuple[int, float]:
    """Bytes held, and bytes if each token that several share was held once."""
    chosen: dict[str, Any] = {"model": str(folder), "prefix_cache_bytes": 1 << 30}
    engine = make_engine(Settings(**chosen, engine="mlx"))
    recorder = Recorder(engine)
    async with running(engine, **chosen) as server:

        async def held(number: int) -> int:
            await server.ask(f"Who is sailor {number}?", system=system, max_tokens=8, temperature=0)
            return server.service.load.prefix_bytes

        one = await held(0)
        (first,) = known_tokens(recorder)
        for number in range(1, N_CONVERSATIONS):
            many = await held(number)
    return many, one / len(first) * n_distinct(known_tokens(recorder))


def known_tokens(recorder: Recorder) -> list[Sequence[int]]:
    """Tokens of each conversation that a cache can keep: all but the last that was drawn."""
    answers = recorder.recording.answers
    return [[*prompt, *answer] for prompt, answer in answers.items()]


def n_distinct(conversations: Sequence[Sequence[int]]) -> int:
    """Tokens at distinct places: those that begin alike count once."""
    seen: set[tuple[int, ...]] = set()
    for tokens in conversations:
        key: tuple[int, ...] = ()
        for token in tokens:
            key = (hash(key), token)
            seen.add(key)
    return len(seen)
