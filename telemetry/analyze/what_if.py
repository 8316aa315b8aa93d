"""Other settings of the caches for a recording, and what each would have given. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mlxdeck.telemetry.analyze.block_cache import ReplayPolicy
from mlxdeck.telemetry.analyze.cache_replay import (
    UNLIMITED,
    Replayed,
    ReplaySettings,
    held_tokens,
    replay,
)
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt, prepared
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import RecordedPrompt, RecordedTraffic
from mlxdeck.telemetry.schema.events import StreamStart

FACTORS = (0.25, 0.5, 2.0, 4.0)
"""Of the room for states."""
RULES = ("billing_header", "total_tokens", "output_heads", "tool_ids")
MAX_PLAYED = 20_000
"""Requests; of a longer recording the last ones, as each setting takes a second for 5,000."""
MIN_HELD_TOKENS = 500
"""With less in RAM, what a token takes can't be told."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One set of settings and its outcome."""

    name: str
    settings: ReplaySettings
    outcome: Replayed


@dataclass(frozen=True, slots=True)
class WhatWas:
    """What happened."""

    n_requests: int
    prompt_tokens: int
    exact_tokens: int
    prefix_tokens: int
    prefill_s: float
    decode_s: float
    hit_rate: float
    n_left_out: int
    """Requests before those that are played."""
    reason: str
    """Why nothing can be played; empty if it can."""
    token_bytes: float
    """Of a token in RAM; NaN if it is unknown."""
    limit_bytes: float
    """Room for states in RAM; infinite if it was never told, and nothing was evicted."""


@dataclass(frozen=True, slots=True)
class WhatIfReport:
    """What happened, the same played, and what other settings would have given."""

    measured: WhatWas
    in_force: WhatIf
    others: list[WhatIf]


def what_if(traffic: RecordedTraffic) -> WhatIfReport:
    """Play a recording with the settings that were in force, and with others."""
    prompts = prepared(traffic, MAX_PLAYED)
    told = [each.told for each in prompts]
    header = traffic.headers[-1][2] if traffic.headers else StreamStart()
    token_bytes = header.kv_token_bytes
    if token_bytes is None:
        token_bytes = _token_bytes(traffic, prompts)
    limit_bytes = _limit_bytes(traffic, told)
    shape = StateShape(
        token_bytes if token_bytes > 0 else 1.0,
        header.kv_window_tokens,
        header.kv_window_bytes,
        header.kv_fixed_bytes,
    )
    own = ReplaySettings(
        prefix_bytes=limit_bytes if token_bytes > 0 else UNLIMITED,
        policy="adaptive" if header.cache_policy == "adaptive" else "lru",
        disk=True if header.disk_cache is None else header.disk_cache,
        exact_entries=1000 if header.exact_cache_entries is None else header.exact_cache_entries,
        max_age_s=header.answer_max_age_s or UNLIMITED,
    )
    in_force = WhatIf("as it was", own, replay(prompts, own, shape))
    others = [WhatIf(name, each, replay(prompts, each, shape)) for name, each in _others(own, told)]
    n_left_out = sum(each.n_tokens > 0 for each in traffic.prompts) - len(told)
    measured = _measured(told, n_left_out, token_bytes, limit_bytes)
    return WhatIfReport(measured, in_force, others)


def _others(
    own: ReplaySettings, told: Sequence[RecordedPrompt]
) -> Iterator[tuple[str, ReplaySettings]]:
    if math.isfinite(own.prefix_bytes):
        for factor in FACTORS:
            room = factor * own.prefix_bytes
            yield f"{factor:g} times the memory", replace(own, prefix_bytes=room)
    yield "unlimited memory", replace(own, prefix_bytes=UNLIMITED)
    other: ReplayPolicy = "lru" if own.policy == "adaptive" else "adaptive"
    yield f"--cache-policy {other}", replace(own, policy=other)
    yield (
        "no states or answers on disk" if own.disk else "states and answers on disk",
        replace(own, disk=not own.disk),
    )
    yield "no whole answers", replace(own, exact_entries=0)
    yield "no states in memory or on disk", replace(own, prefix_bytes=0, disk=False)
    acted = {text.split(" ")[0] for each in told for text in each.removed_parts}
    for rule in RULES:
        if rule in acted:
            yield f"--canonical-off {rule}", replace(own, rules_off=(rule,))
    if len(acted) > 1:
        yield "no canonical rules", replace(own, rules_off=tuple(sorted(acted)))


def _measured(
    told: Sequence[RecordedPrompt], n_left_out: int, token_bytes: float, limit_bytes: float
) -> WhatWas:
    total = sum(each.n_tokens for each in told)
    exact = sum(each.n_tokens for each in told if each.exact_tier)
    prefix = sum(each.matched for each in told if not each.exact_tier)
    reason = "" if any(each.path for each in told) else "it holds no digests of prompts"
    return WhatWas(
        n_requests=len(told),
        prompt_tokens=total,
        exact_tokens=exact,
        prefix_tokens=prefix,
        prefill_s=sum(each.prefill_s for each in told),
        decode_s=sum(each.decode_s for each in told),
        hit_rate=(exact + prefix) / total if total else 0.0,
        n_left_out=n_left_out,
        reason=reason,
        token_bytes=token_bytes,
        limit_bytes=limit_bytes,
    )


def _limit_bytes(traffic: RecordedTraffic, told: Sequence[RecordedPrompt]) -> float:
    """The room that was told most recently, or the most that was held if something was evicted."""
    limits = [limit for *_, limit in traffic.held if limit is not None]
    if limits:
        return float(statistics.median(limits))
    evicted = any(each.miss_reason == "evicted" for each in told)
    most = max((held for *_, held, _ in traffic.held), default=0)
    return float(most) if evicted and most else UNLIMITED


def _token_bytes(traffic: RecordedTraffic, prompts: Sequence[PlayedPrompt]) -> float:
    """What a token in RAM takes: bytes that were held, over the tokens that a replay holds."""
    ratios = []
    samples = [(ts, pid, held) for ts, pid, held, _ in traffic.held if held]
    played = held_tokens(prompts, [ts for ts, *_ in samples])
    for (_, _, held), tokens in zip(samples, played, strict=True):
        if tokens >= MIN_HELD_TOKENS:
            ratios.append(held / tokens)
    # What was evicted is still held here, so that later ratios are too small.
    return max(ratios, default=math.nan)
