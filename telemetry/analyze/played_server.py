"""The caches of a server that is played: whole answers, and KV states in RAM and on disk. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlxdeck.telemetry.analyze.block_cache import BlockCache, ReplayPolicy
from mlxdeck.telemetry.analyze.played_blocks import NOWHERE, Part, Places, PlayedBlock, PlayedMatch
from mlxdeck.telemetry.analyze.state_shape import StateShape

MIN_GAIN_TOKENS = 64
"""So many more tokens than RAM the disk has to know to be worth a read; as the server has it."""
MIN_STORED_TOKENS = 64
QUIET_S = 3.0
"""So long a conversation is quiet until its state is written to disk; as the server has it."""
MAX_WAITING = 256
"""Where more states wait for the disk, they don't wait to be quiet."""
UNLIMITED = float("inf")


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Caches that a server is played with."""

    prefix_bytes: float
    """Room for KV states in RAM."""
    policy: ReplayPolicy = "lru"
    disk: bool = True
    exact_entries: int = 1000
    max_age_s: float = UNLIMITED
    rules_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlayedServer:
    """A process of a recording, and the caches that it is played with."""

    settings: ReplaySettings
    shapes: Mapping[str, StateShape] = field(default_factory=dict)
    """What states take, by model; without one, a token is a byte."""
    end_ts: float = UNLIMITED
    """When it said its last."""
    writes_all: bool = True
    """Whether it ends in good order, and writes what waits for the disk."""
    unlimited_because: str = ""
    """What is known of its limit of states, where it is played with none; begins with a verb."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A state that is to be written to disk."""

    since_s: float
    path: Sequence[int]
    n_tokens: int
    shared_tokens: int
    common_tokens: float


class Tiers:
    """The KV states of one model."""

    def __init__(self, settings: ReplaySettings, shape: StateShape, disk: BlockCache) -> None:
        self.ram = BlockCache(settings.prefix_bytes, settings.policy, shape)
        self._disk = disk if settings.disk else None
        self._waiting: dict[Part, _Waiting] = {}
        """By the end of each, those that wait longest first."""

    def keep(
        self,
        path: Sequence[int],
        n_tokens: int,
        shared_tokens: int,
        now_s: float,
        common_tokens: float = UNLIMITED,
    ) -> None:
        """Keep a state in RAM, and have it written once its conversation has been quiet."""
        # What was due by now was written before it could be evicted for this.
        self.write(now_s)
        end = self.ram.add(path, n_tokens, shared_tokens, common_tokens)
        if end is None or self._disk is None or n_tokens < MIN_STORED_TOKENS:
            return
        # In the place of those that it begins with.
        block = end if isinstance(end, PlayedBlock) else end.block
        for part in (*block.path(), end):
            self._waiting.pop(part, None)
        self._waiting[end] = _Waiting(now_s, path, n_tokens, shared_tokens, common_tokens)

    def write(self, until_s: float) -> None:
        """Write what has waited until then, as far as RAM still has it."""
        if self._disk is None:
            return
        if len(self._waiting) > MAX_WAITING:
            until_s = UNLIMITED
        for end, each in list(self._waiting.items()):
            if each.since_s + QUIET_S > until_s:
                break
            del self._waiting[end]
            if end.is_held:
                n_tokens = min(each.n_tokens, end.end)
                shared_tokens = min(each.shared_tokens, n_tokens)
                self._disk.add(each.path, n_tokens, shared_tokens, each.common_tokens)

    def lease(self, path: Sequence[int], n_tokens: int, places: Places = NOWHERE) -> PlayedMatch:
        """Lease what RAM knows of a prompt; what the disk has is there too then, if it is more."""
        match = self.ram.find(path, n_tokens, places)
        self.ram.lease(match)
        if self._disk is None:
            return match
        stored = self._disk.find(path, n_tokens, places)
        if stored.n_tokens < match.n_tokens + MIN_GAIN_TOKENS:
            return match
        self.ram.release(match)
        self.ram.restore(stored)
        match = self.ram.find(path, n_tokens, places)
        self.ram.lease(match)
        return match


class RunningServer:
    """A process that is played. `disks` and `answers` are on disk, for all servers."""

    def __init__(
        self, of: PlayedServer, disks: dict[str, BlockCache], answers: dict[str, float]
    ) -> None:
        self.running: Counter[str] = Counter()
        """Answers that are under way, by their keys."""
        self.is_up = True
        self._of = of
        self._settings = of.settings
        self._disks, self._on_disk = disks, answers
        self._answers: OrderedDict[str, float] = OrderedDict()
        self._tiers: dict[str, Tiers] = {}

    @property
    def n_evicted(self) -> int:
        """Parts of states that were evicted."""
        return sum(each.ram.n_evicted for each in self._tiers.values())

    def of(self, model: str) -> Tiers:
        """The states of a model, none at first."""
        if model not in self._tiers:
            shape = self._of.shapes.get(model) or StateShape()
            disk = self._disks.setdefault(model, BlockCache(UNLIMITED, shape=shape))
            self._tiers[model] = Tiers(self._settings, shape, disk)
        return self._tiers[model]

    def end(self) -> None:
        """The process ends."""
        self.is_up = False
        for each in self._tiers.values():
            each.write(UNLIMITED if self._of.writes_all else self._of.end_ts)

    def knows(self, key: str, now_s: float) -> bool:
        """Whether a whole answer is known, or under way."""
        if not self._settings.exact_entries:
            return False
        if self.running[key] > 0:
            return True
        made_s = self._answers.get(key)
        if made_s is None and self._settings.disk:
            made_s = self._on_disk.get(key)
        if made_s is None or now_s - made_s > self._settings.max_age_s:
            return False
        self._remember(key, made_s)
        return True

    def store(self, key: str, now_s: float) -> None:
        """Keep a whole answer."""
        if self._settings.exact_entries:
            self._remember(key, now_s)
            if self._settings.disk:
                self._on_disk[key] = now_s

    def _remember(self, key: str, made_s: float) -> None:
        self._answers[key] = made_s
        self._answers.move_to_end(key)
        while len(self._answers) > self._settings.exact_entries:
            self._answers.popitem(last=False)
