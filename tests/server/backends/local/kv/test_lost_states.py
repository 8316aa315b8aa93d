"""A state that can't be had costs its entry: it is counted, and what is left adds up."""

from __future__ import annotations

import pytest

from mlxdeck.server.backends.local.engine.api import KVState
from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv.blocks import in_ram
from mlxdeck.server.backends.local.kv.guarded_states import GuardedStates
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.faults import KINDS, Injected, Plan

BYTES = 8
SYSTEM = list(range(50))
LONG = [*SYSTEM, *range(100, 200)]


def opened(max_tokens: int) -> tuple[PrefixCache, KVCache, Plan]:
    """An empty cache whose states fail as planned."""
    plan = Plan()
    states = GuardedStates(Injected(EchoStates(), plan))

    async def nothing(_: object) -> None:
        raise AssertionError("nothing is on disk")

    ram = PrefixCache(states, BYTES * max_tokens)
    return ram, KVCache(states, ram, None, nothing), plan


def adds_up(cache: PrefixCache) -> bool:
    """Whether the bytes are those of the entries, and nothing is leased."""
    return cache.n_bytes == sum(e.n_bytes for e in cache.tree.parts()) and not cache.n_leases


def kept(cache: PrefixCache) -> list[bytes]:
    """The tokens of the blocks in RAM."""
    return [block.tokens for block in cache.tree.blocks() if in_ram(block)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", ["is_cuttable", "block_bytes", "block", "size_bytes"])
def test_a_new_state_that_fails_is_not_kept(site: str, kind: str) -> None:
    """Whoever computed it has the answer all the same; the next one is kept."""
    ram, cache, plan = opened(100)
    plan.arm(site, kind)
    cache.keep(KVState(LONG, tuple(LONG)), 50, ram.lease(LONG))
    assert (len(ram), dict(ram.stats.evictions)) == (0, {"failed": 1})
    assert adds_up(ram)
    cache.keep(KVState(LONG, tuple(LONG)), 50, ram.lease(LONG))
    assert len(ram) == 1 and adds_up(ram)


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_state_that_cant_be_cut_makes_room_whole(kind: str) -> None:
    """The new one is kept."""
    ram, cache, plan = opened(200)
    cache.keep(KVState(LONG, tuple(LONG)), 50, ram.lease(LONG))
    plan.arm("cut", kind)
    other = list(range(1_000, 1_120))
    cache.keep(KVState(other, tuple(other)), 0, ram.lease(other))
    assert ram.stats.evictions["failed"] == 1
    assert kept(ram) == [pack(other)]
    assert adds_up(ram)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_cant_be_leased_is_dropped(kind: str) -> None:
    """The next best is leased, or nothing: its request computes the rest."""
    ram, cache, plan = opened(1_000)
    other = [*SYSTEM, *range(300, 310)]
    cache.keep(KVState(LONG, tuple(LONG)), 0, ram.lease(LONG))
    cache.keep(KVState(other, tuple(other)), 0, ram.lease(other))
    plan.arm("lease", kind)
    lease = ram.lease([*LONG, 1])
    assert lease.n_cached == len(SYSTEM)
    assert ram.stats.evictions["failed"] == 1
    lease.release()
    assert adds_up(ram)


def test_what_nothing_could_be_drawn_from_is_dropped() -> None:
    """With all that begins with it; others stay."""
    ram, cache, _ = opened(1_000)
    other = list(range(400, 450))
    for tokens in (LONG, other):
        cache.keep(KVState(tokens, tuple(tokens)), 0, ram.lease(tokens))
    lease = ram.lease([*SYSTEM, 1])
    cache.spoil([*SYSTEM, 1][: lease.n_cached])
    assert kept(ram) == [pack(other)]
    lease.release()
    assert adds_up(ram)


@pytest.mark.parametrize("kind", KINDS)
def test_one_type_comes_out(kind: str) -> None:
    """Without the frames of the first one, which hold arrays."""
    plan = Plan()
    states = GuardedStates(Injected(EchoStates(), plan))
    plan.arm("lease", kind)
    with pytest.raises(EngineFailed, match="injected") as raised:
        states.lease([(1, 2)], 2, None)
    assert raised.value.__cause__ is None and raised.value.__context__ is None
