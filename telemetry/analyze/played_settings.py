"""The settings of caches that were in force, by what servers recorded of them. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from mlxdeck.telemetry.analyze.cache_replay import held_tokens
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt
from mlxdeck.telemetry.analyze.played_server import UNLIMITED, PlayedServer, ReplaySettings
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import RecordedServer, RecordedTraffic
from mlxdeck.telemetry.schema.events import StreamStart

_T = TypeVar("_T")
MIN_HELD_TOKENS = 500
"""With less in RAM, what a token takes can't be told."""
NO_LIMIT_BYTES = 1 << 40
"""Room that nobody has; servers of which none is known tell it."""
_DEFAULTS = ReplaySettings(UNLIMITED)


def played_servers(traffic: RecordedTraffic, prompts: Sequence[PlayedPrompt]) -> list[PlayedServer]:
    """Each process of a recording, with its own settings and what its models' states take."""
    headers = [each.header for each in traffic.servers if each.header is not None]
    # One whose beginning is not here is taken to be like the last one that told.
    usual = headers[-1] if headers else StreamStart()
    by_model = {each.model: each for each in headers}
    own: list[list[PlayedPrompt]] = [[] for _ in traffic.servers]
    for each in prompts:
        own[each.told.server].append(each)
    return [
        _played(server, asked, server.header or usual, by_model)
        for server, asked in zip(traffic.servers, own, strict=True)
    ]


def _played(
    server: RecordedServer,
    prompts: Sequence[PlayedPrompt],
    header: StreamStart,
    by_model: Mapping[str, StreamStart],
) -> PlayedServer:
    names = {each.told.model for each in prompts}
    headers = {name: _of_model(name, header, by_model) for name in names}
    measured = math.nan
    if any(each.kv_token_bytes is None for each in headers.values()):
        measured = _token_bytes(server, prompts)
    shapes = {name: _shape(each, measured) for name, each in headers.items()}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    has_evicted = any(each.told.miss_reason == "evicted" for each in prompts)
    limit_bytes, why = _limit_bytes(server, has_evicted=has_evicted)
    if len(known) < len(names):
        limit_bytes, why = UNLIMITED, "is not played, as the size of states is unknown"
    return PlayedServer(
        _settings(header, limit_bytes), known, server.end_ts, server.has_stopped, why
    )


def _of_model(name: str, own: StreamStart, by_model: Mapping[str, StreamStart]) -> StreamStart:
    """The header of a model: a request names its backend too."""
    model = name.partition(" ")[2]
    return own if own.model == model else by_model.get(model, own)


def _shape(header: StreamStart, measured: float) -> StateShape | None:
    """What a state takes; None if nothing is known of it."""
    told = header.kv_token_bytes
    token_bytes = measured if told is None else told
    others = (header.kv_window_tokens, header.kv_window_bytes, header.kv_fixed_bytes)
    if math.isnan(token_bytes) or not (token_bytes or any(others)):
        return None
    return StateShape(token_bytes, *others)


def _settings(header: StreamStart, limit_bytes: float) -> ReplaySettings:
    return ReplaySettings(
        prefix_bytes=limit_bytes,
        policy="adaptive" if header.cache_policy == "adaptive" else _DEFAULTS.policy,
        disk=_told(header.disk_cache, _DEFAULTS.disk),
        exact_entries=_told(header.exact_cache_entries, _DEFAULTS.exact_entries),
        max_age_s=header.answer_max_age_s or UNLIMITED,
    )


def _told(value: _T | None, otherwise: _T) -> _T:
    return otherwise if value is None else value


def notes(traffic: RecordedTraffic, played: Collection[int]) -> list[str]:
    """What is taken for granted of the servers in some places, and what isn't played."""
    servers = [traffic.servers[place] for place in sorted(played)]
    headers = [each.header or StreamStart() for each in servers]
    untold = {
        "the limit of KV states": not all(each.limits for each in servers),
        "the policy": not all(each.cache_policy for each in headers),
        "whether there is a disk cache": any(each.disk_cache is None for each in headers),
        "the limit of answers": any(each.exact_cache_entries is None for each in headers),
    }
    found = []
    if names := [name for name, is_untold in untold.items() if is_untold]:
        found.append(f"limits unknown, taken from defaults: {', '.join(names)}")
    if any(each.has_8bit for each in servers):
        found.append("--kv-8bit was on and is not played: states took less memory than here")
    return found


def _limit_bytes(server: RecordedServer, *, has_evicted: bool) -> tuple[float, str]:
    """The room that was told, or the most that was held if something was evicted.

    Room for more than the machine has is no limit. Where there is none, also why.
    """
    if server.limits:
        limit = float(statistics.median(server.limits))
        memory_bytes = server.header.memory_bytes if server.header else 0
        if limit < (memory_bytes or NO_LIMIT_BYTES):
            return limit, ""
        return UNLIMITED, "is more than the machine has"
    most = max((held for _, held in server.held), default=0)
    if has_evicted and most:
        return float(most), ""
    # Of what was evicted, only what somebody asked for again is known.
    asked = "though states were evicted" if has_evicted else "and no request missed evicted states"
    return UNLIMITED, f"is not recorded, {asked}"


def _token_bytes(server: RecordedServer, prompts: Sequence[PlayedPrompt]) -> float:
    """What a token in RAM takes: bytes that were held, over the tokens that a replay holds."""
    played = held_tokens(prompts, [ts for ts, _ in server.held])
    # What was evicted is still held here, so that later ratios are too small.
    ratios = [
        held / tokens
        for (_, held), tokens in zip(server.held, played, strict=True)
        if tokens >= MIN_HELD_TOKENS
    ]
    return max(ratios, default=math.nan)
