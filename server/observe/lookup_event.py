"""A cache lookup as its event."""

from __future__ import annotations

from mlxdeck.server.observe.captured_content import HASH_DIGITS
from mlxdeck.server.request_facts import LookedUp
from mlxdeck.telemetry.schema import events as t

DIGITS = 6
"""Of seconds; more were not measured, and each costs readers time."""


def lookup_event(found: LookedUp) -> t.CacheLookup:
    """What is recorded of it."""
    n_cached, n_tokens, miss = found.matched_tokens, found.prompt_tokens, found.miss
    # One token is always left to run, so all but one is as good as it gets.
    is_whole = found.cache == "exact" or n_cached >= n_tokens - 1
    return t.CacheLookup(
        cache=found.cache,
        result=("hit" if is_whole else "partial") if found.tier else "miss",
        tier=found.tier,
        key=found.key[:HASH_DIGITS],
        matched_tokens=n_cached if n_tokens else None,
        prompt_tokens=n_tokens or None,
        miss_reason=miss.reason,
        diverged_at_token=miss.at_token,
        diverged_block=miss.part,
        diverged_hash=miss.ours,
        diverged_hash_before=miss.theirs,
        shared_tokens=found.shared_tokens,
        message_starts=found.message_starts,
        tail_start=found.tail_start,
        tool_tokens=found.tool_tokens,
        n_blocks_before=found.blocks.n_before,
        block_before=found.blocks.before,
        blocks=found.blocks.new,
        regrouped=found.regrouped,
        duration_s=round(found.duration_s, DIGITS),
    )
