"""The settings of caches that were in force, by what servers recorded of them. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from mlxdeck.telemetry.analyze.cache_replay import held_tokens
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt
from mlxdeck.telemetry.analyze.played_server import UNLIMITED, PlayedServer, ReplaySettings
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import RecordedServer, RecordedTraffic
from mlxdeck.telemetry.schema.events import StreamStart

MIN_HELD_TOKENS = 500
"""With less in RAM, what a token takes can't be told."""


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
    limit_bytes = _limit_bytes(server, has_evicted=has_evicted)
    # Without a size of tokens, none of states is known.
    settings = _settings(header, limit_bytes if len(known) == len(names) else UNLIMITED)
    return PlayedServer(settings, known, server.end_ts, writes_all=server.has_stopped)


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
        policy="adaptive" if header.cache_policy == "adaptive" else "lru",
        disk=True if header.disk_cache is None else header.disk_cache,
        exact_entries=1000 if header.exact_cache_entries is None else header.exact_cache_entries,
        max_age_s=header.answer_max_age_s or UNLIMITED,
    )


def _limit_bytes(server: RecordedServer, *, has_evicted: bool) -> float:
    """The room that was told, or the most that was held if something was evicted."""
    if server.limits:
        return float(statistics.median(server.limits))
    most = max((held for _, held in server.held), default=0)
    return float(most) if has_evicted and most else UNLIMITED


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
