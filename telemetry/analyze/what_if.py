"""Other settings of the caches for a recording, and what each would have given. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mlxdeck.telemetry.analyze.block_cache import ReplayPolicy
from mlxdeck.telemetry.analyze.cache_replay import Replayed, replay
from mlxdeck.telemetry.analyze.played_prompts import prepared
from mlxdeck.telemetry.analyze.played_server import UNLIMITED, PlayedServer, ReplaySettings
from mlxdeck.telemetry.analyze.played_settings import notes, played_servers
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import RecordedPrompt, RecordedTraffic

FACTORS = (0.25, 0.5, 2.0, 4.0)
"""Of the room for states."""
RULES = ("billing_header", "total_tokens", "output_heads", "tool_ids")
MAX_PLAYED = 20_000
"""Requests; of a longer recording the last ones, as each setting takes a second for 5,000."""


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
    n_impossible: int
    """Requests that are left out, as no server can have counted their tokens so."""
    n_settings: int
    """Servers and models whose caches differ, each of which is played with its own."""
    reason: str
    """Why nothing can be played; empty if it can."""
    token_bytes: float
    """Of a token in RAM, for the model that was asked last; NaN if it is unknown."""
    limit_bytes: float
    """Room for states in RAM of that server; infinite if it is played with no limit."""
    limit_unknown: str
    """What is known of the limit then, as a sentence; else empty."""
    notes: tuple[str, ...]
    """What is taken for granted, and what is not played."""


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
    servers = played_servers(traffic, prompts)
    # Of several servers, the one that answered last stands for all where one is named.
    last = servers[told[-1].server] if told else PlayedServer(ReplaySettings(UNLIMITED))
    shape = last.shapes.get(told[-1].model) if told else None
    own = last.settings
    in_force = WhatIf("as it was", own, replay(prompts, servers))
    others = []
    for name, change in _others(servers, own, told):
        changed = [replace(each, settings=change(each.settings)) for each in servers]
        others.append(WhatIf(name, change(own), replay(prompts, changed)))
    measured = _measured(
        told,
        n_impossible=traffic.n_impossible,
        n_left_out=sum(each.n_tokens > 0 for each in traffic.prompts) - len(told),
        n_settings=len({_setup(servers[each.server], each.model) for each in told}),
        token_bytes=shape.token_bytes if shape else math.nan,
        limit_bytes=own.prefix_bytes,
        limit_unknown=_of_limit(last, {each.server for each in told}),
        notes=tuple(notes(traffic, {each.server for each in told if each.path})),
    )
    return WhatIfReport(measured, in_force, others)


def _of_limit(last: PlayedServer, played: Collection[int]) -> str:
    whose = "the limit" if len(played) < 2 else "the limit of the last server"
    return f"{whose} {last.unlimited_because}" if last.unlimited_because else ""


def _setup(server: PlayedServer, model: str) -> tuple[ReplaySettings, StateShape | None]:
    return server.settings, server.shapes.get(model)


Change = Callable[[ReplaySettings], ReplaySettings]


def _others(
    servers: Sequence[PlayedServer], own: ReplaySettings, told: Sequence[RecordedPrompt]
) -> Iterator[tuple[str, Change]]:
    """What is changed of each server's settings; `own` are those of the last one."""
    if any(math.isfinite(each.settings.prefix_bytes) for each in servers):
        for factor in FACTORS:
            yield f"{factor:g} times the memory", partial(_with_room, factor=factor)
    yield "unlimited memory", partial(replace, prefix_bytes=UNLIMITED)
    other: ReplayPolicy = "lru" if own.policy == "adaptive" else "adaptive"
    yield f"--cache-policy {other}", partial(replace, policy=other)
    yield (
        "no states or answers on disk" if own.disk else "states and answers on disk",
        partial(replace, disk=not own.disk),
    )
    yield "no whole answers", partial(replace, exact_entries=0)
    yield "no states in memory or on disk", partial(replace, prefix_bytes=0, disk=False)
    acted = {text.split(" ")[0] for each in told for text in each.removed_parts}
    for rule in RULES:
        if rule in acted:
            yield f"--canonical-off {rule}", partial(replace, rules_off=(rule,))
    if len(acted) > 1:
        yield "no canonical rules", partial(replace, rules_off=tuple(sorted(acted)))


def _with_room(settings: ReplaySettings, *, factor: float) -> ReplaySettings:
    return replace(settings, prefix_bytes=factor * settings.prefix_bytes)


def _measured(
    told: Sequence[RecordedPrompt],
    *,
    n_left_out: int,
    n_impossible: int,
    n_settings: int,
    token_bytes: float,
    limit_bytes: float,
    limit_unknown: str,
    notes: tuple[str, ...],
) -> WhatWas:
    total = sum(each.n_tokens for each in told)
    exact = sum(each.n_tokens for each in told if each.exact_tier)
    prefix = sum(each.matched for each in told if not each.exact_tier)
    reason = "" if any(each.path for each in told) else "it holds no digests of prompts"
    if n_impossible and not told:
        reason = "none of its requests is possible"
    return WhatWas(
        n_requests=len(told),
        prompt_tokens=total,
        exact_tokens=exact,
        prefix_tokens=prefix,
        prefill_s=sum(each.prefill_s for each in told),
        decode_s=sum(each.decode_s for each in told),
        hit_rate=(exact + prefix) / total if total else 0.0,
        n_left_out=n_left_out,
        n_impossible=n_impossible,
        n_settings=n_settings,
        reason=reason,
        token_bytes=token_bytes,
        limit_bytes=limit_bytes,
        limit_unknown=limit_unknown,
        notes=notes,
    )
