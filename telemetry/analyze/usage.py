"""What caches gave and which tools were called: counts over the requests of a store."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlxdeck.telemetry.analyze.stats import Array, hit_tokens, percentiles
from mlxdeck.telemetry.columns.record_batch import INVALID, REPAIRED, UNREAD, UNREADABLE
from mlxdeck.telemetry.schema.figures import EXACT
from mlxdeck.telemetry.store.store import Store

MEMORY_TIERS = {"": "memory", "ram": "memory", "flight": "an answer under way"}
"""Names of tiers for a person; any other is its own."""


@dataclass(frozen=True, slots=True)
class ToolUses:
    """The calls of one tool."""

    n: int = 0
    n_unreadable: int = 0
    """The model's text could not be read as a call."""
    n_invalid: int = 0
    """The arguments don't conform to the tool's schema."""
    n_repaired: int = 0
    """The JSON of the arguments had to be repaired."""
    n_requests: int = 0
    """Requests whose answers have such a call."""
    n_results: int = 0
    """Calls whose result a later request has brought."""
    n_failed: int = 0
    """Those of them that failed, as the client says."""
    p95_s: float = math.nan
    """P95 of the seconds from a call to its result; NaN if none is known."""
    argument_bytes: int = 0
    """Of all calls, as far as it is known."""


@dataclass(frozen=True, slots=True)
class CallTotals:
    """The calls of all tools together."""

    n: int
    """Also those that could not be read."""
    n_unreadable: int
    n_repaired: int
    n_results: int
    """Calls whose result a later request has brought."""
    n_failed: int
    """Those of them that failed, as the client says."""


@dataclass(frozen=True, slots=True)
class TierHits:
    """What one cache tier gave."""

    n_requests: int
    n_tokens: int
    """Prompt tokens."""


def tier_hits(store: Store, rows: Array) -> dict[str, TierHits]:
    """What came from each cache tier, by the tier's name for a person."""
    exact, prefix = hit_tokens(store, rows)
    tokens = (exact + prefix).astype(np.int64)
    hit = (tokens > 0) | (store.column("cache")[rows] == EXACT)
    numbers = store.column("tier")[rows]
    found: dict[str, TierHits] = {}
    for number in np.unique(numbers[hit]).tolist():
        own = hit & (numbers == number)
        name = MEMORY_TIERS.get(store.strings[number], store.strings[number])
        so_far = found.get(name, TierHits(0, 0))
        n, n_tokens = int(own.sum()), int(tokens[own].sum())
        found[name] = TierHits(so_far.n_requests + n, so_far.n_tokens + n_tokens)
    return dict(sorted(found.items()))


def call_totals(store: Store, chosen: Array, as_of_ts: float = math.inf) -> CallTotals:
    """The calls of requests, for each of which `chosen` tells whether it counts.

    Results that came after `as_of_ts` are not known.
    """
    calls = store.calls
    mine = chosen[calls.rows]
    # Combined over all calls: to select those of the requests takes several times as long.
    came = mine & (calls.result_ts <= as_of_ts)
    return CallTotals(
        n=int(np.count_nonzero(mine)),
        n_unreadable=_n_with(calls.faults * mine, UNREAD),
        n_repaired=_n_with(calls.faults * mine, REPAIRED),
        n_results=int(np.count_nonzero(came)),
        n_failed=int(np.count_nonzero(calls.failed & came)),
    )


def _n_with(faults: Array, fault: int) -> int:
    return int(np.count_nonzero(faults & fault))


def calls_of(store: Store, rows: Array) -> Array:
    """For each call of the store whether one of some requests made it."""
    chosen = np.zeros(store.n, bool)
    chosen[rows] = True
    return np.asarray(chosen[store.calls.rows])


def tool_uses(store: Store, rows: Array, as_of_ts: float = math.inf) -> dict[str, ToolUses]:
    """The calls of each tool, most first; those that name none are below an empty name.

    Results that came after `as_of_ts` are not known.
    """
    calls = store.calls
    mine = calls_of(store, rows)
    came = calls.result_ts[mine] <= as_of_ts
    failed, elapsed_s = calls.failed[mine] & came, calls.elapsed_s[mine]
    owners, names, faults = calls.rows[mine], calls.names[mine], calls.faults[mine]
    sizes = calls.argument_bytes[mine]
    found = {}
    for number in np.flatnonzero(np.bincount(names)).tolist():
        own = names == number
        name, own_faults, known = store.strings[number], faults[own], own & came
        asked = np.zeros(store.n, bool)
        asked[owners[own]] = True
        found["" if name == UNREADABLE else name] = ToolUses(
            n=len(own_faults),
            n_unreadable=_n_with(own_faults, UNREAD),
            n_invalid=_n_with(own_faults, INVALID),
            n_repaired=_n_with(own_faults, REPAIRED),
            n_requests=int(np.count_nonzero(asked)),
            n_results=int(np.count_nonzero(known)),
            n_failed=int(np.count_nonzero(own & failed)),
            p95_s=percentiles(elapsed_s[known]).p95,
            argument_bytes=int(sizes[own].sum(dtype=np.float64)),
        )
    return dict(sorted(found.items(), key=lambda item: (-item[1].n, item[0])))
