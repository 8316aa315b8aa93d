"""The caches of a replay, played beside the server's own: both hold and know the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import PackedPart
from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv.blocks import BlockTree
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.leases import Lease
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.restoring import Restoring
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import SqliteIndex
from mlxdeck.telemetry.analyze.block_cache import BlockCache, ReplayPolicy
from mlxdeck.telemetry.analyze.played_server import ReplaySettings, Tiers
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS

SHAPES = {
    "full attention": StateShape(8.0),
    "sliding windows": StateShape(8.0, 64, 8.0),
    "windows alone": StateShape(0.0, 64, 8.0),
    "recurrent": StateShape(0.0, 0, 0.0, 3000.0),
    "hybrid": StateShape(8.0, 0, 0.0, 3000.0),
}
SIZES = (2_048, 6_144, 12_032, 25_088, 60_160)
"""Of RAM: from less than one prompt takes to more than all of them."""
MIN_SEGMENT_TOKENS = 64


class ShapedStates(EchoStates):
    """States without contents: one is a number of tokens, a part of it a name, that and a size."""

    def __init__(self, shape: StateShape) -> None:
        self._shape = shape

    def is_cuttable(self, state: Any) -> bool:
        return self._shape.is_cuttable

    def block_bytes(self, state: Any, start: int, end: int) -> int:
        return int(self._shape.block_bytes(end - start))

    def checkpoint_bytes(self, state: Any) -> int:
        return 0 if self._shape.is_cuttable else int(self._shape.checkpoint_bytes(state))

    def block(self, state: Any, start: int, end: int) -> Any:
        return ("block", end - start, self.block_bytes(state, start, end))

    def checkpoint(self, state: Any) -> Any:
        return ("checkpoint", state, self.checkpoint_bytes(state))

    def cut(self, block: Any, n_tokens: int) -> Any:
        return self.block(None, 0, n_tokens)

    def size_bytes(self, part: Any) -> int:
        n_bytes: int = part[2]
        return n_bytes

    def lease(self, blocks: Sequence[Any], n_tokens: int, checkpoint: Any) -> Any:
        return n_tokens

    def pack(self, part: Any) -> PackedPart:
        return PackedPart(f"{part[0]} {part[1]} {part[2]}", [b"-"])

    def restore(self, about: str, data: Any) -> Any:
        kind, n_tokens, n_bytes = about.split()
        return (kind, int(n_tokens), int(n_bytes))


@dataclass(frozen=True, slots=True)
class Turn:
    """A request: its prompt, and the states that are kept of it, as paths of blocks of tokens."""

    path: list[int]
    shared: int
    kept: list[list[int]]
    holds_lease: bool
    is_quiet: bool
    """Whether nothing comes for a while afterwards."""


@dataclass(slots=True)
class Talks:
    """Five conversations over two system prompts, some of whose turns are edited."""

    chance: random.Random
    n_made: int = 0
    talks: list[tuple[list[int], int]] = field(default_factory=list)

    def new(self, least: int, most: int) -> list[int]:
        """Blocks that nothing else has."""
        n = self.chance.randint(least, most)
        self.n_made += n
        return list(range(self.n_made - n + 1, self.n_made + 1))

    def turns(self, n: int, *, is_cuttable: bool) -> Iterator[Turn]:
        """In turn by chance."""
        chance = self.chance
        systems = [self.new(0, 19) for _ in range(2)]
        self.talks = [(list(systems[n % 2]), len(systems[n % 2])) for n in range(5)]
        for _ in range(n):
            number = chance.randrange(len(self.talks))
            path, shared = self.talks[number]
            if chance.random() < 0.15:
                path = path[: chance.randint(shared, len(path))]
            path = [*path, *self.new(1, 11)]
            answered = [*path, *self.new(1, 2)]
            ends = [shared, *sorted(chance.randrange(shared, len(path)) for _ in range(2))]
            kept = [answered[:end] for end in (() if is_cuttable else ends)]
            flags = (chance.random() < 0.2, chance.random() < 0.4)
            yield Turn(path, shared, [*kept, answered], *flags)
            self.talks[number] = (answered, shared)


def tokens_of(path: Sequence[int]) -> list[int]:
    return [number for number in path for _ in range(SUB_TOKENS)]


def kept_of(turn: Turn, n_known: int) -> Iterator[list[int]]:
    """Those of the states on the way that are not too near to each other, and the last one."""
    last = n_known
    for path in turn.kept:
        n = SUB_TOKENS * len(path)
        if n - last >= MIN_SEGMENT_TOKENS or path is turn.kept[-1]:
            last = n
            yield path


@pytest.mark.parametrize("policy", ["lru", "adaptive"])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_ram_holds_the_same_after_every_step(size: int, kind: str, policy: ReplayPolicy) -> None:
    """Whatever the model's layers keep, the policy and the room; leases may be out meanwhile."""
    shape, n_known = SHAPES[kind], 0
    for seed in range(3):
        real = PrefixCache(ShapedStates(shape), size, POLICIES[policy]())
        played, out = BlockCache(size, policy, shape), []
        for turn in Talks(random.Random(seed)).turns(30, is_cuttable=shape.is_cuttable):
            tokens = tokens_of(turn.path)
            lease, match = real.lease(tokens), played.find(turn.path, len(tokens) - 1)
            played.lease(match)
            assert match.n_tokens == lease.n_cached
            n_known += match.n_tokens
            out.append((lease, match))
            while out and (len(out) > 2 or not turn.holds_lease):
                lease, match = out.pop(0)
                lease.release()
                played.release(match)
            for path in kept_of(turn, match.n_tokens):
                n = SUB_TOKENS * len(path)
                shared = min(SUB_TOKENS * turn.shared, n)
                real.add(pack(tokens_of(path)), n, shared)
                played.add(path, n, shared)
                assert played.held_bytes == real.n_bytes
    assert n_known or size < SIZES[2]


@asynccontextmanager
async def opened(
    folder: Path, shape: StateShape, size: int
) -> AsyncIterator[tuple[PrefixCache, DiskPrefixCache, Restoring]]:
    """A server's states in RAM and on disk."""
    states, disk = ShapedStates(shape), DiskIO(SqliteIndex(folder))
    ram = PrefixCache(states, size, tree=BlockTree("model"))
    stored = DiskPrefixCache(disk, folder, states, ram, "model", 1 << 30)

    async def on_engine(what: Any) -> None:
        what()

    try:
        await stored.refresh()
        yield ram, stored, Restoring(states, ram, stored, on_engine)
    finally:
        await asyncio.to_thread(disk.close)


def _take(leases: list[Lease], ram: PrefixCache, tokens: list[int]) -> None:
    leases.append(ram.lease(tokens))


@pytest.mark.parametrize("size", [SIZES[2], SIZES[3]])
@pytest.mark.parametrize("kind", ["full attention", "sliding windows", "recurrent", "hybrid"])
async def test_what_disk_and_ram_know_is_the_same(tmp_path: Path, kind: str, size: int) -> None:
    """What is evicted comes back, if its conversation was quiet before."""
    shape = SHAPES[kind]
    played = Tiers(ReplaySettings(size), shape, BlockCache(1 << 30, shape=shape))
    now_s, n_restored = 0.0, 0
    async with opened(tmp_path, shape, size) as (ram, stored, restoring):
        for turn in Talks(random.Random(1)).turns(40, is_cuttable=shape.is_cuttable):
            tokens = tokens_of(turn.path)
            leases = [ram.lease(tokens)]
            take = partial(_take, leases, ram, tokens)
            n_restored += await restoring.restore(tokens, take, leases[0])
            lease = leases[-1]
            played.write(now_s)
            match = played.lease(turn.path, len(tokens) - 1)
            assert match.n_tokens == lease.n_cached
            lease.release()
            played.ram.release(match)
            for path in kept_of(turn, lease.n_cached):
                n = SUB_TOKENS * len(path)
                shared = min(SUB_TOKENS * turn.shared, n)
                ram.add(pack(tokens_of(path)), n, shared, store=True)
                played.keep(path, n, shared, now_s)
            if turn.is_quiet:
                now_s += 10
                stored.write_due(everything=True)
                await asyncio.wrap_future(stored._disk.write(lambda _: None))
    assert n_restored
