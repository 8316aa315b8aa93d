"""Blocks that are quiet lie in 8 bits: which, when, once, and what that does to the bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from mlxdeck.server.backends.local.engine.echo import TOKEN_BYTES
from mlxdeck.server.backends.local.kv import cooling, write_queue
from mlxdeck.server.backends.local.kv.blocks import BlockTree, TokenBlock
from mlxdeck.server.backends.local.kv.cooling import Cooling
from mlxdeck.server.backends.local.kv.integrity import check_integrity
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from tests.server.backends.local.kv.states import Small, SmallStates

BLOCK = 8


class Odd(SmallStates):
    """Blocks whose first token is odd can't be quantised."""

    def can_be(self, part: tuple[int, ...]) -> bool:
        """By their first token."""
        return part[0] % 2 == 0


@pytest.fixture
def states() -> SmallStates:
    """Fresh ones."""
    return Odd()


@pytest.fixture
def cache(states: SmallStates, monkeypatch: pytest.MonkeyPatch) -> PrefixCache:
    """Short blocks, that are quiet at once."""
    monkeypatch.setattr(cooling, "QUIET_S", 0.0)
    return PrefixCache(states, 1 << 20, tree=BlockTree(block_tokens=BLOCK))


def keep(cache: PrefixCache, tokens: Sequence[int], shared_tokens: int = 0) -> None:
    """Store a state."""
    cache.add(pack(tokens), tuple(tokens), shared_tokens)


def quantize(cache: PrefixCache, states: SmallStates) -> Cooling:
    """All that is due."""
    made = Cooling(cache.tree, cache.leases, states)
    due = made.due()
    while due:
        due = made.quantize(due)
    return made


def blocks(cache: PrefixCache) -> Iterator[TokenBlock]:
    """In the order of their tokens."""
    return iter(sorted(cache.tree.blocks(), key=lambda block: block.start_tokens))


def prompt(n: int) -> list[int]:
    """Even numbers."""
    return list(range(0, 2 * n, 2))


def add_up(cache: PrefixCache) -> None:
    """Both counts of bytes are those of the blocks."""
    assert not check_integrity(cache.tree, cache.leases)
    for part in cache.tree.parts():
        assert part.is_quantized is isinstance(part.data, Small)


def test_full_blocks_take_less_and_tails_stay_exact(
    cache: PrefixCache, states: SmallStates
) -> None:
    """Two bytes a token of full blocks, eight of the tail; leases are as long as before."""
    keep(cache, prompt(2 * BLOCK + 3))
    exact_bytes = cache.n_bytes
    assert exact_bytes == TOKEN_BYTES * (2 * BLOCK + 3)
    assert quantize(cache, states).n_quantized == 2
    assert cache.n_bytes == (TOKEN_BYTES // 4) * 2 * BLOCK + TOKEN_BYTES * 3
    assert [block.is_quantized for block in blocks(cache)] == [True, True, False]
    add_up(cache)
    lease = cache.lease([*prompt(2 * BLOCK + 3), 1])
    assert (lease.n_cached, lease.state) == (2 * BLOCK + 3, tuple(prompt(2 * BLOCK + 3)))


def test_no_block_is_quantised_twice(cache: PrefixCache, states: SmallStates) -> None:
    """Nor tried twice, if it can't be; what comes later lies exact beside it until it is quiet."""
    keep(cache, [*prompt(BLOCK), *range(1, 2 * BLOCK, 2)])
    for _ in range(3):
        quantize(cache, states)
    assert states.n_tried == 2
    assert [block.is_quantized for block in blocks(cache)] == [True, False]
    longer = [*prompt(BLOCK), *range(1, 2 * BLOCK, 2), *prompt(BLOCK)]
    keep(cache, longer)
    mixed = cache.lease([*longer, 1])
    assert mixed.n_cached == len(longer)
    assert mixed.state == tuple(longer)
    mixed.release()
    quantize(cache, states)
    assert states.n_tried == 3
    add_up(cache)


def test_what_is_leased_is_not_touched(cache: PrefixCache, states: SmallStates) -> None:
    """Not the end of a leased path, and nothing before it; what lies beside it is."""
    keep(cache, prompt(3 * BLOCK))
    keep(cache, [*prompt(BLOCK), *range(100, 100 + 2 * BLOCK, 2)])
    lease = cache.lease([*prompt(2 * BLOCK), 1])
    quantize(cache, states)
    quantized = [block.start_tokens for block in blocks(cache) if block.is_quantized]
    assert quantized == [BLOCK, 2 * BLOCK]
    lease.release()
    quantize(cache, states)
    assert all(block.is_quantized for block in cache.tree.blocks())


def test_a_lease_that_comes_between_keeps_its_blocks_exact(
    cache: PrefixCache, states: SmallStates
) -> None:
    """Also one that is taken after somebody has looked what is due."""
    keep(cache, prompt(2 * BLOCK))
    made = Cooling(cache.tree, cache.leases, states)
    due = made.due()
    cache.lease([*prompt(2 * BLOCK), 1])
    assert len(due) == 2
    assert not made.quantize(due)
    assert (states.n_tried, cache.tree.n_quantized_bytes) == (0, 0)


def test_what_was_used_a_moment_ago_is_hot(
    states: SmallStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block stays exact until it was quiet for as long as a state that is to be written."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    cache = PrefixCache(states, 1 << 20, tree=BlockTree(block_tokens=BLOCK))
    keep(cache, prompt(2 * BLOCK))
    clock[0] += write_queue.QUIET_S / 2
    cache.lease([*prompt(BLOCK), 1]).release()
    clock[0] += write_queue.QUIET_S / 2
    quantize(cache, states)
    assert [block.is_quantized for block in blocks(cache)] == [False, True]
    clock[0] += write_queue.QUIET_S / 2
    quantize(cache, states)
    assert all(block.is_quantized for block in cache.tree.blocks())


def test_no_step_waits_for_many_blocks(
    cache: PrefixCache, states: SmallStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps of the engine, only so many bytes are quantised."""
    monkeypatch.setattr(cooling, "STEP_BYTES", 2 * BLOCK * TOKEN_BYTES)
    keep(cache, prompt(5 * BLOCK))
    made = Cooling(cache.tree, cache.leases, states)
    left, counts = made.due(), []
    while left:
        left = made.quantize(left)
        counts.append(made.n_quantized)
    assert counts == [2, 4, 5]


def test_the_end_of_a_system_prompt_lies_in_8_bits_too(
    cache: PrefixCache, states: SmallStates
) -> None:
    """However short it is, it is no tail; it stays so when what follows it is given up."""
    keep(cache, prompt(2 * BLOCK), BLOCK + 3)
    quantize(cache, states)
    cache.give_way(1)
    (first, last) = blocks(cache)
    assert (len(last.data), last.is_quantized, first.is_quantized) == (3, True, True)
    assert states.n_tried == 2
    add_up(cache)


def test_what_is_dropped_leaves_no_bytes(cache: PrefixCache, states: SmallStates) -> None:
    """Neither of one kind nor of the other."""
    keep(cache, prompt(2 * BLOCK + 3))
    quantize(cache, states)
    cache.clear()
    assert (cache.n_bytes, cache.tree.n_quantized_bytes) == (0, 0)
