"""The cache of KV states in RAM: what it finds, what it gives up, and what it never does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlxdeck.server.backends.local.engine.echo import TOKEN_BYTES, EchoStates
from mlxdeck.server.backends.local.kv.blocks import BLOCK_TOKENS
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import n_common, pack, unpack
from tests.server.backends.local.kv.states import Mixed, Recurrent


def cache_of(n_tokens: int, policy: str = "lru", states: EchoStates | None = None) -> PrefixCache:
    """A cache with room for so many tokens."""
    return PrefixCache(states or EchoStates(), TOKEN_BYTES * n_tokens, POLICIES[policy]())


def add(cache: PrefixCache, tokens: Sequence[int], shared_tokens: int = 0) -> None:
    """Keep the state of these tokens."""
    cache.add(pack(tokens), tuple(tokens), shared_tokens)


def known(cache: PrefixCache, tokens: Sequence[int]) -> int:
    """How many of the tokens a lease gets."""
    lease = cache.lease(tokens)
    lease.release()
    return lease.n_cached


@pytest.mark.parametrize("n", [0, 1, 5, 100, 1000])
def test_common_tokens_are_counted(n: int) -> None:
    """Up to the first that differs, wherever that is."""
    one, other = [*range(n), 7_000], [*range(n), 8_000, 1]
    assert n_common(pack(one), pack(other)) == n
    assert n_common(pack(one), pack(one)) == n + 1
    assert unpack(pack(other)) == other


def test_a_shared_system_prompt_outlives_its_conversations() -> None:
    """A conversation that has to go leaves the part that others begin with too."""
    system = list(range(50))
    cache = cache_of(200)
    add(cache, [*system, *range(100, 200)], shared_tokens=50)
    add(cache, list(range(1000, 1120)))
    assert known(cache, [*system, 7, 8]) == 50
    assert known(cache, [*system, *range(100, 200)]) == 50
    assert cache.stats.evictions == {"shrunk": 1}


def test_a_shared_part_is_not_kept_twice() -> None:
    """While another conversation holds the same system prompt, the old one goes whole."""
    system = list(range(50))
    cache = cache_of(210)
    add(cache, [*system, *range(100, 150)], shared_tokens=50)
    add(cache, [*system, *range(200, 250)], shared_tokens=50)
    add(cache, list(range(1000, 1100)))
    assert (len(cache), cache.n_bytes) == (2, TOKEN_BYTES * 200)
    assert cache.stats.evictions == {"room": 1}


def test_a_longer_state_replaces_its_own_beginning() -> None:
    """One conversation is one entry, however many turns it has."""
    cache = cache_of(1000)
    for n in (10, 20, 30):
        add(cache, list(range(n)))
    add(cache, list(range(15)))
    assert (len(cache), cache.n_bytes) == (1, TOKEN_BYTES * 30)


@pytest.mark.parametrize("kind", [Recurrent, Mixed])
def test_states_that_cant_be_cut_are_found_whole_only(kind: type[EchoStates]) -> None:
    """Each boundary has its own state; the longest that the prompt begins with is taken."""
    cache = cache_of(1000, states=kind())
    for n in (40, 80, 100):
        add(cache, list(range(n)))
    assert len(cache) == 3
    assert known(cache, [*range(60), 7, 8]) == 40
    assert known(cache, [*range(100), 7]) == 100
    assert known(cache, list(range(100))) == 80


def test_what_is_larger_than_the_cache_is_cut_to_it() -> None:
    """Half of a long prompt's state is better than none; what can't be cut is not kept."""
    cache = cache_of(100)
    add(cache, list(range(150)))
    assert known(cache, list(range(150))) == 100
    whole = cache_of(100, states=Recurrent())
    add(whole, list(range(150)))
    assert (len(whole), whole.stats.evictions) == (0, {"no_room": 1})


def test_what_is_in_use_is_never_given_up() -> None:
    """With everything leased, a new state is not kept; once released, it is."""
    cache = cache_of(100)
    add(cache, list(range(80)))
    lease = cache.lease(list(range(80)))
    add(cache, list(range(500, 580)))
    assert cache.clear() == 0
    assert known(cache, list(range(80))) == 79
    lease.release()
    lease.release()
    add(cache, list(range(500, 580)))
    assert known(cache, list(range(500, 580))) == 79


@pytest.mark.parametrize("is_freed", [True, False])
def test_memory_counts_as_free_once_it_is_free(is_freed: bool) -> None:
    """What is given up may be held by a sequence that runs: then a new state is not made."""
    cache = cache_of(200)
    add(cache, range(100))
    held = cache.n_bytes
    cache.free_bytes = lambda: TOKEN_BYTES * 130 - (cache.n_bytes if is_freed else held)
    add(cache, range(1_000, 1_060))
    assert known(cache, [*range(1_000, 1_060), 7]) == 60 * is_freed
    assert cache.stats.evictions["no_room"] == (not is_freed)


def test_adaptive_keeps_what_pays() -> None:
    """A system prompt that everybody uses outlives newer conversations that nobody returns to."""
    system = list(range(50))
    survivors = {}
    for policy in POLICIES:
        cache = cache_of(300, policy, Recurrent())
        add(cache, system)
        for _ in range(10):
            assert known(cache, [*system, 7]) == 50
        for n in range(1, 7):
            add(cache, list(range(1000 * n, 1000 * n + 100)))
        survivors[policy] = known(cache, [*system, 7])
    assert survivors == {"lru": 0, "adaptive": 50}


@pytest.mark.parametrize("n_more", [0, 224, 479])
def test_conversations_over_one_system_prompt_hold_it_once(n_more: int) -> None:
    """Ten take no more than one and what is apart in each; each is known whole."""
    system = list(range(20_000 + n_more))
    cache = cache_of(1 << 20)
    ends = [[*system, *range(100_000 * n, 100_000 * n + 700)] for n in range(1, 11)]
    add(cache, ends[0], shared_tokens=len(system))
    one = cache.n_bytes
    for end in ends[1:]:
        add(cache, end, shared_tokens=len(system))
    assert len(cache) == 10
    assert cache.n_bytes == one + TOKEN_BYTES * 9 * 700
    assert [known(cache, [*end, 1]) for end in ends] == [len(end) for end in ends]


def test_a_turn_stores_only_its_own_tokens() -> None:
    """What was leased is referred to again: nothing of it is copied, but for its last block."""
    copied = 0

    class Counting(EchoStates):
        def block(self, state: object, start: int, end: int) -> object:
            nonlocal copied
            copied += end - start
            return super().block(state, start, end)

    cache = cache_of(1 << 20, states=Counting())
    tokens = list(range(10_000))
    add(cache, tokens)
    for turn in range(5):
        copied, tokens = 0, [*tokens, *range(50_000 + 1000 * turn, 50_100 + 1000 * turn)]
        assert known(cache, tokens) == len(tokens) - 100
        add(cache, tokens)
        assert copied < 100 + BLOCK_TOKENS
    assert (len(cache), cache.n_bytes) == (1, TOKEN_BYTES * len(tokens))


def test_what_is_leased_holds_what_it_begins_with() -> None:
    """A short lease on a long state lets go of what lies behind, and of nothing before."""
    cache = cache_of(4 * BLOCK_TOKENS)
    add(cache, list(range(4 * BLOCK_TOKENS)))
    lease = cache.lease([*range(BLOCK_TOKENS + 10), 7_777])
    add(cache, list(range(10_000, 10_000 + 2 * BLOCK_TOKENS)))
    assert known(cache, list(range(4 * BLOCK_TOKENS))) == 2 * BLOCK_TOKENS
    assert lease.state == tuple(range(BLOCK_TOKENS + 10))
    lease.release()
    assert cache.clear() == 2
    assert cache.n_bytes == 0 and not list(cache.tree.blocks())
