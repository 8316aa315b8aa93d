"""A recording played again with other caches: what each would have known. Pure.

Requests come when they came. What a setting changes in their times changes nothing in their order.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mlxdeck.telemetry.analyze.block_cache import (
    BlockCache,
    PlayedMatch,
    ReplayPolicy,
)
from mlxdeck.telemetry.analyze.played_prompts import PlayedPrompt
from mlxdeck.telemetry.analyze.state_shape import StateShape
from mlxdeck.telemetry.read.prompt_paths import SUB_TOKENS, RecordedPrompt

MIN_GAIN_TOKENS = 64
"""So many more tokens than RAM the disk has to know to be worth a read; as the server has it."""
MIN_STORED_TOKENS = 64
MIN_SEGMENT_TOKENS = 64
"""Places of a prompt that are nearer to each other are no places to keep a state."""
QUIET_S = 3.0
"""So long a conversation is quiet until its state is written to disk; as the server has it."""
UNLIMITED = float("inf")


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Caches that a recording is played with."""

    prefix_bytes: float
    """Room for KV states in RAM."""
    policy: ReplayPolicy = "lru"
    disk: bool = True
    exact_entries: int = 1000
    max_age_s: float = UNLIMITED
    rules_off: tuple[str, ...] = ()


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
class _Caches:
    """The caches of one model."""

    ram: BlockCache
    disk: BlockCache
    waiting: deque[tuple[float, PlayedPrompt]] = field(default_factory=deque)
    """States that are to be written to disk, and since when."""

    def write(self, until_s: float) -> None:
        """Write what has waited until then, as far as RAM still has it."""
        while self.waiting and self.waiting[0][0] + QUIET_S <= until_s:
            _, each = self.waiting.popleft()
            n = self.ram.find(each.kept, each.kept_tokens, ()).n_tokens
            if n >= MIN_STORED_TOKENS:
                self.disk.add(each.kept, n, each.told.shared_tokens)


@dataclass(slots=True)
class _Play:
    """One way through a recording."""

    settings: ReplaySettings
    shape: StateShape
    caches: dict[str, _Caches] = field(default_factory=dict)
    answers: OrderedDict[str, float] = field(default_factory=OrderedDict)
    old_answers: dict[str, float] = field(default_factory=dict)
    """On disk."""
    running: dict[str, int] = field(default_factory=dict)
    pid: int = -1

    def of(self, model: str) -> _Caches:
        """The caches of a model, empty at first."""
        if model not in self.caches:
            self.caches[model] = _Caches(self._empty(), BlockCache(UNLIMITED, shape=self.shape))
        return self.caches[model]

    def _empty(self) -> BlockCache:
        return BlockCache(self.settings.prefix_bytes, self.settings.policy, self.shape)

    def restart(self, pid: int) -> None:
        """Another process has begun: RAM is empty."""
        if self.pid not in (-1, pid):
            self.answers.clear()
            self.running.clear()
            for caches in self.caches.values():
                # A server that ends in good order writes the rest.
                caches.write(UNLIMITED)
                caches.ram = self._empty()
        self.pid = pid

    def knows(self, key: str, now_s: float) -> bool:
        """Whether a whole answer is known, or under way."""
        if self.running.get(key):
            return True
        made_s = self.answers.get(key)
        if made_s is None and self.settings.disk:
            made_s = self.old_answers.get(key)
        if made_s is None or now_s - made_s > self.settings.max_age_s:
            return False
        self._store(key, made_s)
        return True

    def store(self, key: str, now_s: float) -> None:
        """Keep a whole answer."""
        self._store(key, now_s)
        if self.settings.exact_entries:
            self.old_answers[key] = now_s

    def _store(self, key: str, made_s: float) -> None:
        self.answers[key] = made_s
        self.answers.move_to_end(key)
        while len(self.answers) > self.settings.exact_entries:
            self.answers.popitem(last=False)


def replay(
    prompts: Sequence[PlayedPrompt], settings: ReplaySettings, shape: StateShape | None = None
) -> Replayed:
    """Play a recording with some caches; without a shape, a token is a byte."""
    shape = shape or StateShape()
    play, ends = (
        _Play(settings, shape),
        list[tuple[float, int, PlayedPrompt, PlayedMatch, BlockCache]](),
    )
    exact, prefix, total, prefill_s, decode_s = 0, 0, 0, 0.0, 0.0
    for number, each in enumerate(_by_rules(prompts, settings.rules_off)):
        told = each.told
        while ends and ends[0][0] <= told.at_ts:
            _finish(play, *heapq.heappop(ends)[2:])
        play.restart(told.pid)
        total += told.n_tokens
        asks = bool(told.key) and told.exact_reason not in ("bypassed", "disabled")
        if asks and settings.exact_entries and play.knows(told.key, told.at_ts):
            exact += told.n_tokens
            continue
        decode_s += each.write_s
        caches = play.of(told.model)
        match = _found(caches, each, disk=settings.disk)
        prefix += match.n_tokens
        prefill_s += (told.n_tokens - match.n_tokens) * each.read_s
        if told.key and each.repeatable:
            play.running[told.key] = play.running.get(told.key, 0) + 1
        heapq.heappush(ends, (max(told.end_ts, told.at_ts), number, each, match, caches.ram))
    n_evicted = sum(each.ram.n_evicted for each in play.caches.values())
    return Replayed(total, exact, prefix, prefill_s, decode_s, n_evicted)


def _found(caches: _Caches, each: PlayedPrompt, *, disk: bool) -> PlayedMatch:
    """Lease what RAM knows of a prompt, or what the disk does, if that is more."""
    # One token is always left to run.
    n_most = each.told.n_tokens - 1
    match = caches.ram.find(each.path, n_most, each.boundaries)
    if disk:
        caches.write(each.told.at_ts)
        known = caches.disk.find(each.path, n_most, each.boundaries).n_tokens
        if known >= match.n_tokens + MIN_GAIN_TOKENS:
            caches.ram.add(each.path, known, min(each.told.shared_tokens, known))
            match = caches.ram.find(each.path, n_most, each.boundaries)
    caches.ram.lease(match)
    return match


def _finish(play: _Play, each: PlayedPrompt, match: PlayedMatch, ram: BlockCache) -> None:
    """A request is over: its lease ends, its state and its answer are kept."""
    told = each.told
    ram.release(match)
    if told.key and each.repeatable:
        play.running[told.key] = max(0, play.running.get(told.key, 0) - 1)
        play.store(told.key, told.end_ts)
    caches = play.of(told.model)
    if not told.has_token or ram is not caches.ram:
        # Nothing was computed, or its process has ended.
        return
    _keep(caches.ram, each, match.n_tokens, play.shape)
    if play.settings.disk:
        caches.waiting.append((told.end_ts, each))


def _keep(ram: BlockCache, each: PlayedPrompt, n_known: int, shape: StateShape) -> None:
    """Keep the state of a prompt with its answer; of one that can't be cut, also on its way."""
    shared, last = each.told.shared_tokens, n_known
    places = sorted({*each.told.boundaries, each.tail})
    for end in () if shape.is_cuttable(each.kept_tokens) else places:
        if end - last >= MIN_SEGMENT_TOKENS and end < each.told.n_tokens:
            ram.add(each.path, end, min(shared, end))
            last = end
    ram.add(each.kept, each.kept_tokens, shared)


def _by_rules(prompts: Sequence[PlayedPrompt], off: Sequence[str]) -> Iterator[PlayedPrompt]:
    """The prompts as they would have been without some canonical rules."""
    if not off:
        yield from prompts
        return
    numbers: dict[object, int] = {}
    for each in prompts:
        changes = sorted(_changes(each.told, off))
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
            index = int(place) if place.isdigit() else -1
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
    """How many tokens of states an unlimited RAM holds at some moments, in ascending order."""
    settings = ReplaySettings(UNLIMITED, disk=False, exact_entries=0)
    play = _Play(settings, StateShape())
    ends = sorted(prompts, key=lambda each: each.told.end_ts)
    found, place = list[float](), 0
    for moment in moments:
        while place < len(ends) and ends[place].told.end_ts <= moment:
            each = ends[place]
            place += 1
            play.restart(each.told.pid)
            if each.told.has_prompt and each.told.has_token:
                ram = play.of(each.told.model).ram
                ram.add(each.kept, each.kept_tokens, each.told.shared_tokens)
        found.append(sum(each.ram.held_bytes for each in play.caches.values()))
    return found
