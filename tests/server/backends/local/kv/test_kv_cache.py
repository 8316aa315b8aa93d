"""States of all tiers: who owns a lease while clients come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from mlxdeck.server.backends.local.engine.echo import ByteTokenizer, EchoStates, NoGrammars
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.backends.local.preparation import Preparation, Ready
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text
from mlxdeck.server.request_facts import Digests

TOKENIZER = ByteTokenizer()
FORMAT = choose_format("auto", TOKENIZER.traits)
RENDERER = Renderer(TOKENIZER, FORMAT, 4096)
REQUEST = ChatRequest("m", (), (Message("user", (Text("hello " * 30),)),), Sampling(10))
TOKENS = RENDERER.render(REQUEST).tokens


async def unused(work: object) -> None:
    """No engine is asked."""


def cache_of(states: EchoStates) -> KVCache:
    """A cache in RAM that knows `TOKENS`."""
    cache = KVCache(states, PrefixCache(states, 1 << 20), None, unused)
    cache.ram.add(pack(TOKENS), tuple(TOKENS), 0)
    return cache


class Held(EchoStates):
    """A lease takes until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def lease(self, blocks: Sequence[object], n_tokens: int, checkpoint: object) -> object:
        """Wait, then lease."""
        self.entered.set()
        assert self.go.wait(10)
        return super().lease(blocks, n_tokens, checkpoint)


def preparation(cache: KVCache) -> Preparation:
    """What asks for leases, with a prompt thread of its own."""
    pool = ThreadPoolExecutor(1)
    return Preparation(pool, pool, RENDERER, TOKENIZER.traits, FORMAT, NoGrammars(), cache, None)


def lease(asking: Preparation) -> asyncio.Task[Ready]:
    """Ask for what is known of `TOKENS`."""
    return asyncio.create_task(asking.prepare(REQUEST, Digests("", "", ())))


async def test_a_lease_that_is_made_for_nobody_is_given_back() -> None:
    """Its client leaves while it is being made; then the entry can be cleared."""
    states = Held()
    cache = cache_of(states)
    prepares = preparation(cache)
    asking = lease(prepares)
    await asyncio.to_thread(states.entered.wait, 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    states.go.set()
    prepares._short.pool.shutdown(cancel_futures=True)
    assert cache.ram.n_leases == 0
    assert cache.ram.clear() == 1


@pytest.mark.parametrize("seed", range(4))
async def test_no_lease_is_left_wherever_its_client_leaves(seed: int) -> None:
    """Before it is made, meanwhile, after it was made and before it was handed over."""
    random, states = Random(seed), EchoStates()
    cache = cache_of(states)
    prepares = preparation(cache)
    for _ in range(100):
        asking = lease(prepares)
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        if random.random() < 0.3:
            await asyncio.to_thread(lambda: None)
        asking.cancel()
        try:
            ready = await asking
        except asyncio.CancelledError:
            continue
        ready.found.lease.release()
    prepares._short.pool.shutdown(cancel_futures=True)
    assert cache.ram.n_leases == 0
    assert cache.ram.clear() == 1


async def test_a_lease_ends_once_however_many_end_it() -> None:
    """The engine's thread and the event loop release the same one at the same time."""
    cache = cache_of(EchoStates())
    barrier = threading.Barrier(4)
    for _ in range(50):
        held = cache.ram.lease(TOKENS)
        other = cache.ram.lease(TOKENS)

        def release() -> None:
            barrier.wait()
            held.release()  # noqa: B023

        await asyncio.gather(*(asyncio.to_thread(release) for _ in range(4)))
        assert cache.ram.n_leases == 1
        other.release()
    assert cache.ram.n_leases == 0


async def test_a_state_that_cant_be_made_leaves_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked got none to give back."""
    cache = cache_of(EchoStates())

    def full(blocks: object, n_tokens: int, checkpoint: object) -> object:
        raise MemoryError

    monkeypatch.setattr(cache.ram._states, "lease", full)
    with pytest.raises(MemoryError):
        cache.ram.lease(TOKENS)
    assert cache.ram.n_leases == 0
