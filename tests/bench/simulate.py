"""Policies of the prefix cache, played over recorded traffic: no model is run.

The cache is the real one; only its states are made up, as long as the real ones would be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.telemetry.schema.codec import decode
from mlxdeck.telemetry.schema.events import Attrs, CacheLookup, RequestStart
from tests.bench.load import heading
from tests.corpora.day.stream import day

RECORDING = Path(__file__).parents[1] / "data" / "recording.jsonl"
STATE_BYTES = 8
HOURS = 1.0
SIZES = (0.1, 0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with made-up tokens, equal where the real ones were."""

    tokens: tuple[int, ...]
    shared_tokens: int


@cache
def tokens_of(name: str, n: int) -> tuple[int, ...]:
    """Tokens that stand for a part of a prompt: always the same for the same name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    return tuple(range(seed, seed + n))[:n] if seed + n < 1 << 32 else tokens_of(f"{name}+", n)


def prompts_of(told: Iterable[tuple[str, Attrs | None]]) -> list[Prompt]:
    """The prompts that events of requests tell of, by the digests and lengths of their parts."""
    starts: dict[str, RequestStart] = {}
    prompts = []
    for request_id, attrs in told:
        if isinstance(attrs, RequestStart):
            starts[request_id] = attrs
        elif isinstance(attrs, CacheLookup) and attrs.cache == "prefix":
            start = starts[request_id]
            system = start.system_hash + start.tools_hash
            tokens = tokens_of(f"system {system}", attrs.shared_tokens)
            ends = [*attrs.message_starts[1:], attrs.prompt_tokens or 0]
            for digest, begin, end in zip(
                start.message_hashes, attrs.message_starts, ends, strict=False
            ):
                tokens += tokens_of(f"message {digest}", end - begin)
            if tokens:
                prompts.append(Prompt(tokens, attrs.shared_tokens))
    return prompts


def recorded(path: Path) -> list[Prompt]:
    """The prompts of a telemetry file."""
    lines = map(decode, path.read_bytes().splitlines())
    return prompts_of((line.request_id, line.attrs) for line in lines)


def made_up(seed: int) -> list[Prompt]:
    """The prompts of a made-up hour."""
    return prompts_of((event.request_id, event.attrs) for event in day(HOURS, seed))


def saved(prompts: list[Prompt], policy: str, max_tokens: int) -> float:
    """The share of all prompt tokens that a cache of that size would have known."""
    cache = PrefixCache(EchoStates(), STATE_BYTES * max_tokens, POLICIES[policy]())
    for prompt in prompts:
        lease = cache.lease(prompt.tokens)
        lease.release()
        cache.add(pack(prompt.tokens), prompt.tokens, prompt.shared_tokens)
    total = cache.tally.total
    return total.hit_tokens / total.prompt_tokens


def policies() -> None:
    """Which policy saves most, on recorded and on made-up traffic, in caches of several sizes."""
    heading("Prompt tokens saved by policy, by size of the cache as a share of all that was read")
    traffic = {"recording": recorded(RECORDING)}
    traffic |= {f"made-up hour {seed}": made_up(seed) for seed in range(3)}
    print(f"{'':<16}{'size':>8}" + "".join(f"{name:>12}" for name in POLICIES))
    for name, prompts in traffic.items():
        distinct = sum(len(prompt.tokens) for prompt in prompts)
        largest = max(len(prompt.tokens) for prompt in prompts)
        for size in SIZES:
            # A day's prompts repeat one another: what would hold every session is far less.
            scale = distinct if len(prompts) < 50 else 8 * largest
            max_tokens = int(size * scale)
            shares = [saved(prompts, policy, max_tokens) for policy in POLICIES]
            cells = "".join(f"{share:>12.1%}" for share in shares)
            print(f"{name:<16}{max_tokens:>8}{cells}", flush=True)
