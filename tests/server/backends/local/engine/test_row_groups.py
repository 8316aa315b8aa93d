"""What lies in one buffer, and what that takes, is reckoned before a sequence is let in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.kv_cost import STEP_TOKENS, KVCost, LayerCost
from mlxdeck.server.backends.local.engine.row_groups import (
    MAX_GROUPS,
    PADDING_TOKENS,
    RowGroup,
    nearest_group,
    passes,
)
from mlxdeck.server.backends.local.scheduler.kv_budget import Demand, KVBudget

LENGTHS = st.lists(st.integers(0, 60_000), max_size=12)
COST = KVCost.of([LayerCost(8.0)] * 4)


@given(LENGTHS)
def test_a_pass_has_little_padding(lengths: list[int]) -> None:
    """Every prompt is in one pass, and none is padded by more than is said."""
    found = passes(lengths)
    assert sorted(n for each in found for n in each) == list(range(len(lengths)))
    for each in found:
        longest = max(lengths[n] for n in each)
        assert sum(longest - lengths[n] for n in each) <= PADDING_TOKENS * max(1, len(each) - 1)


@given(LENGTHS, st.integers(1, 60_000))
def test_rows_join_where_the_padding_is_least(lengths: list[int], n_tokens: int) -> None:
    """On their own only if all others are too far, and a further pass isn't too many."""
    groups = [RowGroup(1, each) for each in lengths]
    row = RowGroup(1, n_tokens)
    costs = [abs(each - n_tokens) for each in lengths]
    at = nearest_group(row, groups)
    if at is None:
        assert not groups or (min(costs) > PADDING_TOKENS and len(groups) < MAX_GROUPS)
    else:
        assert costs[at] == min(costs)
        assert groups[at].joined(row).longest_tokens == max(lengths[at], n_tokens)


def test_padding_and_the_copy_of_a_buffer_are_reckoned_with() -> None:
    """A long one that joins short ones lengthens all of them; one on its own lengthens none."""
    budget, row = KVBudget(COST), Demand(3_000, 100, joins=True)
    alone = COST.bytes_of(3_100)
    few, far = RowGroup(3, 1_000), RowGroup(3, 20_000)
    padded = alone + 3 * 2_000 * 32 + COST.copy_bytes(4, 3_000)
    assert budget.lacking_bytes([row], 0, [few]) == padded
    spare = COST.copy_bytes(4, 3_000) // 2
    assert budget.lacking_bytes([row], 0, [few], spare) == padded - spare
    assert budget.lacking_bytes([row], 0, [far]) == alone + COST.copy_bytes(3, 20_000)
    written = Demand(3_000, 100, held_tokens=3_000)
    grown = (100 + STEP_TOKENS) * 32 + COST.copy_bytes(1, 3_000)
    assert budget.lacking_bytes([written], 0, [RowGroup(1, 3_000)]) == grown


def test_one_layer_of_two_models_is_copied_at_a_time() -> None:
    """Beside a draft model too, a buffer is not reckoned as if all of it were copied at once."""
    large, small = KVCost.of([LayerCost(64.0)] * 48), KVCost.of([LayerCost(8.0)] * 24)
    for both in (large.beside(small), small.beside(large)):
        assert both.bytes_of(3_000) == large.bytes_of(3_000) + small.bytes_of(3_000)
        assert both.copy_bytes(1, 3_000) == large.copy_bytes(1, 3_000) < both.bytes_of(3_000) / 4
