"""Policies of the prefix cache, played over recorded traffic: no model is run.

The replay is that of `mlxdeck why`, which a test holds to real servers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlxdeck.telemetry.analyze.block_cache import ReplayPolicy
from mlxdeck.telemetry.analyze.cache_replay import replay
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt, prepared
from mlxdeck.telemetry.analyze.played_server import PlayedServer, ReplaySettings
from mlxdeck.telemetry.read.prompt_paths import traffic_of
from tests.bench.load import heading
from tests.corpora.day.stream import lines

RECORDING = Path(__file__).parents[1] / "data" / "recording.jsonl"
POLICIES: tuple[ReplayPolicy, ...] = ("lru", "adaptive")
HOURS = 1.0
SIZES = (0.1, 0.25, 0.5)
MAX_PROMPTS = 10_000


def recorded(path: Path) -> list[PlayedPrompt]:
    """The prompts of a telemetry file."""
    return prepared(traffic_of([path]), MAX_PROMPTS)


def made_up(seed: int) -> list[PlayedPrompt]:
    """The prompts of a made-up hour."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.jsonl"
        path.write_bytes(b"".join(lines(HOURS, seed)))
        return recorded(path)


def saved(prompts: list[PlayedPrompt], policy: ReplayPolicy, max_tokens: int) -> float:
    """The share of all prompt tokens that a cache of that size would have known."""
    server = PlayedServer(ReplaySettings(max_tokens, policy, disk=False, exact_entries=0))
    n_servers = 1 + max(each.told.server for each in prompts)
    return replay(prompts, [server] * n_servers).hit_rate


def policies() -> None:
    """Which policy saves most, on recorded and on made-up traffic, in caches of several sizes."""
    heading("Prompt tokens saved by policy, by size of the cache as a share of all that was read")
    traffic = {"recording": recorded(RECORDING)}
    traffic |= {f"made-up hour {seed}": made_up(seed) for seed in range(3)}
    print(f"{'':<16}{'size':>8}" + "".join(f"{name:>12}" for name in POLICIES))
    for name, prompts in traffic.items():
        distinct = sum(each.told.n_tokens for each in prompts)
        largest = max(each.told.n_tokens for each in prompts)
        for size in SIZES:
            # A day's prompts repeat one another: what would hold every session is far less.
            scale = distinct if len(prompts) < 100 else 8 * largest
            max_tokens = int(size * scale)
            shares = [saved(prompts, policy, max_tokens) for policy in POLICIES]
            cells = "".join(f"{share:>12.1%}" for share in shares)
            print(f"{name:<16}{max_tokens:>8}{cells}", flush=True)
