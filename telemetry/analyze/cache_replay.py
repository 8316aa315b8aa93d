"""A recording played again with other caches: what each would have known. Pure.

Requests come when they came. What a setting changes in their times changes nothing in their order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mlxdeck.telemetry.analyze.block_cache import BlockCache
from mlxdeck.telemetry.analyze.played_blocks import PlayedMatch
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt
from mlxdeck.telemetry.analyze.played_server import (
    UNLIMITED,
    PlayedServer,
    RunningServer,
    Tiers,
)
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS, RecordedPrompt

MIN_SEGMENT_TOKENS = 64
"""Places of a prompt that are nearer to each other are no places to keep a state."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the caches would have known, and what was computed."""

    prompt_tokens: int
    exact_tokens: int
    """Of prompts whose whole answer was known."""
    prefix_tokens: int
    prefill_s: float
    """Time to compute the rest, at the measured speed of each request."""
    decode_s: float
    """Time to write the answers that were not known."""
    n_evicted: int

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens from any cache; 0 without any."""
        known = self.exact_tokens + self.prefix_tokens
        return known / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(slots=True)
class _Running:
    """A request whose answer is computed."""

    prompt: PlayedPrompt
    match: PlayedMatch
    server: RunningServer
    tiers: Tiers
    is_read: bool = False
    """Whether its prompt is, so that its lease has ended."""


@dataclass(slots=True)
class _Play:
    """One way through a recording."""

    servers: Sequence[PlayedServer]
    begun: dict[int, RunningServer] = field(default_factory=dict)
    disks: dict[str, BlockCache] = field(default_factory=dict)
    """States on disk by model; all servers share them, and answers too."""
    answers: dict[str, float] = field(default_factory=dict)
    events: list[tuple[float, int, _Running]] = field(default_factory=list)
    """Prompts that will have been read, and answers that will have ended."""
    n_events: int = 0
    n_evicted: int = 0

    def server(self, number: int) -> RunningServer:
        """One of them, started if need be."""
        if number not in self.begun:
            self.begun[number] = RunningServer(self.servers[number], self.disks, self.answers)
        return self.begun[number]

    def at(self, event: _Running, ts: float) -> None:
        """Have something happen."""
        self.n_events += 1
        heapq.heappush(self.events, (ts, self.n_events, event))

    def until(self, now_s: float) -> None:
        """Let everything happen up to a moment, the ends of servers too."""
        while self.events and self.events[0][0] <= now_s:
            ts, _, event = heapq.heappop(self.events)
            if event.is_read:
                _finish(event, ts)
            else:
                _read(event, ts)
                self.at(event, max(ts, event.prompt.told.end_ts))
        for number in [n for n in self.begun if self.servers[n].end_ts <= now_s]:
            ended = self.begun.pop(number)
            ended.end()
            self.n_evicted += ended.n_evicted


def replay(prompts: Sequence[PlayedPrompt], servers: Sequence[PlayedServer]) -> Replayed:
    """Play a recording; each prompt names its server by its place among all."""
    play = _Play(servers)
    exact, prefix, total, prefill_s, decode_s = 0, 0, 0, 0.0, 0.0
    for each in _by_rules(prompts, servers):
        told = each.told
        play.until(told.at_ts)
        server = play.server(told.server)
        total += told.n_tokens
        asks = bool(told.key) and told.exact_reason not in ("bypassed", "disabled")
        if asks and server.knows(told.key, told.at_ts):
            exact += told.n_tokens
            continue
        decode_s += each.write_s
        tiers = server.of(told.model)
        match = _found(tiers, each)
        prefix += match.n_tokens
        prefill_s += (told.n_tokens - match.n_tokens) * each.read_s
        if told.key and each.repeatable:
            server.running[told.key] += 1
        # The first token takes a step more, as each of the others does.
        step_s = told.decode_s / max(1, told.output_tokens - 1)
        read_ts = told.end_ts - told.decode_s - step_s
        play.at(_Running(each, match, server, tiers), max(read_ts, told.at_ts))
    n_evicted = play.n_evicted + sum(each.n_evicted for each in play.begun.values())
    return Replayed(total, exact, prefix, prefill_s, decode_s, n_evicted)


def _found(tiers: Tiers, each: PlayedPrompt) -> PlayedMatch:
    """Lease what RAM knows of a prompt, or what the disk does, if that is more."""
    # One token is always left to run.
    n_most = each.told.n_tokens - 1
    tiers.write(each.told.at_ts)
    return tiers.lease(each.path, n_most, each.places)


def _read(event: _Running, now_s: float) -> None:
    """A prompt has been read: of one that can't be cut, states were kept on the way."""
    event.is_read = True
    told = event.prompt.told
    tiers, shared, last = event.tiers, told.shared_tokens, event.match.n_tokens
    if tiers.ram.is_cuttable or not told.has_token or not event.server.is_up:
        return
    # The first state that is kept ends the lease.
    tiers.ram.release(event.match)
    event.match = PlayedMatch()
    places = {*told.boundaries} if told.tail_start else {*told.boundaries, event.prompt.tail}
    for end in sorted(places):
        if end - last >= MIN_SEGMENT_TOKENS and end < told.n_tokens:
            tiers.keep(event.prompt.path, end, min(shared, end), now_s)
            last = end


def _finish(event: _Running, now_s: float) -> None:
    """A request is over: its lease ends, its state and its answer are kept."""
    prompt, server = event.prompt, event.server
    told = prompt.told
    event.tiers.ram.release(event.match)
    if told.key and prompt.repeatable:
        server.running[told.key] -= 1
        server.store(told.key, told.end_ts)
    if told.has_token and server.is_up:
        shared, common = told.shared_tokens, prompt.tail
        event.tiers.keep(prompt.kept, prompt.kept_tokens, shared, now_s, common)


def _by_rules(
    prompts: Sequence[PlayedPrompt], servers: Sequence[PlayedServer]
) -> Iterator[PlayedPrompt]:
    """The prompts as they would have been without some canonical rules."""
    numbers: dict[object, int] = {}
    for each in prompts:
        off = servers[each.told.server].settings.rules_off
        changes = sorted(_changes(each.told, off)) if off else []
        yield (
            replace(
                each,
                path=_changed(each.path, changes, numbers),
                kept=_changed(each.kept, changes, numbers),
            )
            if changes
            else each
        )


def _changes(told: RecordedPrompt, off: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Where a rule took something out of a prompt, and the digest of it."""
    for text in told.removed_parts:
        rule, place, digest = (text.split(" ") + ["", ""])[:3]
        if rule in off:
            n_messages = len(told.boundaries)
            starts = told.message_starts
            index = int(place) if place.isdecimal() and len(place) < 10 else -1
            at = starts[index] if 0 <= index < len(starts) else 0 if index < 0 else n_messages
            yield at, f"{rule} {digest}"


def _changed(
    path: Sequence[int], changes: Sequence[tuple[int, str]], numbers: dict[object, int]
) -> list[int]:
    """Other numbers from the first change on, equal where all changes before are equal."""
    found, rest = [], list(changes)
    so_far: tuple[str, ...] = ()
    for place, number in enumerate(path):
        while rest and rest[0][0] < (place + 1) * SUB_TOKENS:
            so_far = (*so_far, rest.pop(0)[1])
        key = (number, so_far)
        found.append(numbers.setdefault(key, -1 - len(numbers)) if so_far else number)
    return found


def held_tokens(prompts: Sequence[PlayedPrompt], moments: Sequence[float]) -> list[float]:
    """How many tokens of states one server holds at some moments, ascending, if it may hold all."""
    rams: dict[str, BlockCache] = {}
    ends = sorted(prompts, key=lambda each: each.told.end_ts)
    found, place = list[float](), 0
    for moment in moments:
        while place < len(ends) and ends[place].told.end_ts <= moment:
            each = ends[place]
            place += 1
            if each.told.has_prompt and each.told.has_token:
                ram = rams.setdefault(each.told.model, BlockCache(UNLIMITED))
                ram.add(each.kept, each.kept_tokens, each.told.shared_tokens, each.tail)
        found.append(sum(each.held_bytes for each in rams.values()))
    return found
