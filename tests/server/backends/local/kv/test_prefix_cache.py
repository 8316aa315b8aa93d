"""The cache of KV states in RAM: what it finds, what it gives up, and what it never does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlxdeck.server.backends.local.engine.echo import EchoStates
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.prefix_cache import Lease, PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import n_common, pack, unpack

TOKEN_BYTES = 8


@dataclass
class Untrimmable(EchoStates):
    """States of a model that can't forget, like a recurrent one."""

    def trimmable(self, state: object) -> bool:
        return False


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
    assert cache.tally.evictions == {"shrunk": 1}


def test_a_shared_part_is_not_kept_twice() -> None:
    """While another conversation holds the same system prompt, the old one goes whole."""
    system = list(range(50))
    cache = cache_of(210)
    add(cache, [*system, *range(100, 150)], shared_tokens=50)
    add(cache, [*system, *range(200, 250)], shared_tokens=50)
    add(cache, list(range(1000, 1100)))
    assert (len(cache), cache.n_bytes) == (2, TOKEN_BYTES * 200)
    assert cache.tally.evictions == {"room": 1}


def test_a_longer_state_replaces_its_own_beginning() -> None:
    """One conversation is one entry, however many turns it has."""
    cache = cache_of(1000)
    for n in (10, 20, 30):
        add(cache, list(range(n)))
    add(cache, list(range(15)))
    assert (len(cache), cache.n_bytes) == (1, TOKEN_BYTES * 30)


def test_states_that_cant_be_cut_are_found_whole_only() -> None:
    """Each boundary has its own state; the longest that the prompt begins with is taken."""
    cache = cache_of(1000, states=Untrimmable())
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
    whole = cache_of(100, states=Untrimmable())
    add(whole, list(range(150)))
    assert (len(whole), whole.tally.evictions) == (0, {"no_room": 1})


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


def test_adaptive_keeps_what_pays() -> None:
    """A system prompt that everybody uses outlives newer conversations that nobody returns to."""
    system = list(range(50))
    survivors = {}
    for policy in POLICIES:
        cache = cache_of(300, policy, Untrimmable())
        add(cache, system)
        for _ in range(10):
            assert known(cache, [*system, 7]) == 50
        for n in range(1, 7):
            add(cache, list(range(1000 * n, 1000 * n + 100)))
        survivors[policy] = known(cache, [*system, 7])
    assert survivors == {"lru": 0, "adaptive": 50}


class Caching(RuleBasedStateMachine):
    """Anything that can happen to a cache, in any order."""

    limit_tokens = 60
    states: EchoStates = EchoStates()
    policy = "lru"

    def __init__(self) -> None:
        super().__init__()
        self.cache = cache_of(self.limit_tokens, self.policy, self.states)
        self.leases: list[tuple[Lease, tuple[int, ...]]] = []

    tokens = st.lists(st.integers(0, 2), min_size=2, max_size=40)

    @rule(tokens=tokens, shared=st.integers(0, 40))
    def insert(self, tokens: list[int], shared: int) -> None:
        """A sequence has ended."""
        add(self.cache, tokens, min(shared, len(tokens)))

    @rule(tokens=tokens)
    def lease(self, tokens: list[int]) -> None:
        """A prompt comes; what it gets is the state of its own first tokens."""
        lease = self.cache.lease(tokens)
        assert lease.n_cached < len(tokens)
        assert (lease.state or ()) == tuple(tokens[: lease.n_cached])
        if lease.n_cached:
            self.leases.append((lease, tuple(tokens[: lease.n_cached])))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A sequence ends, or is cancelled; some are released twice."""
        if self.leases:
            lease, _ = data.draw(st.sampled_from(self.leases))
            lease.release()

    @rule(data=st.data(), n=st.integers(1, 10))
    def cancel(self, data: st.DataObject, n: int) -> None:
        """A cancelled prefill leaves its partial state, and ends its lease."""
        if self.leases:
            lease, tokens = data.draw(st.sampled_from(self.leases))
            lease.release()
            add(self.cache, [*tokens, *range(n)])

    @rule()
    def clear(self) -> None:
        """The user empties the cache."""
        self.cache.clear()

    @rule()
    def restart(self) -> None:
        """Everything in RAM is gone."""
        self.leases.clear()
        self.cache = cache_of(self.limit_tokens, self.policy, self.states)

    @invariant()
    def limit_holds(self) -> None:
        """The bytes are what they are said to be, and within the limit."""
        entries = self.cache._entries
        assert self.cache.n_bytes == sum(TOKEN_BYTES * len(entry.state) for entry in entries)
        assert self.cache.n_bytes <= self.cache.max_bytes

    @invariant()
    def leases_hold(self) -> None:
        """What is leased is still there, and entries are never leased less than no times."""
        for lease, tokens in self.leases:
            if lease.entry is not None:
                assert lease.entry in self.cache._entries
                assert lease.entry.tokens.startswith(pack(tokens))
        assert all(entry.n_leases >= 0 for entry in self.cache._entries)

    @invariant()
    def states_are_their_tokens(self) -> None:
        """No entry holds a state of other tokens."""
        for entry in self.cache._entries:
            assert pack(entry.state) == entry.tokens


class AdaptiveCaching(Caching):
    """The same under the other policy."""

    policy = "adaptive"


class UntrimmableCaching(Caching):
    """The same for a model that can't forget."""

    states = Untrimmable()


TestCaching = Caching.TestCase
TestAdaptiveCaching = AdaptiveCaching.TestCase
TestUntrimmableCaching = UntrimmableCaching.TestCase
for machine in (TestCaching, TestAdaptiveCaching, TestUntrimmableCaching):
    machine.settings = settings(max_examples=60, stateful_step_count=30)
