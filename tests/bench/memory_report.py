"""What a simulated day has shown: bytes, hits and waits, with their table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.bench.sized_engine import GB, Machine, Meter
from tests.corpora.day.requests import Outcome

SIZES = (512, 4_096, 16_384, 1 << 30)
"""Upper ends of the classes of requests, by prompt tokens that have to be computed."""
BURSTS = "script"
"""Who sends many requests at once; they wait for one another."""


@dataclass(slots=True)
class Peaks:
    """The most bytes, by who held them."""

    stored: int = 0
    """By the cache's own account."""
    waiting_for_disk: int = 0
    """As far as they are not written; part of what is stored."""
    quantized: int = 0
    """Those that lie in 8 bits."""
    running: int = 0
    """Batches, padding included."""
    between_steps: int = 0
    """Everything, by the meter."""

    def see(self, **now: int) -> None:
        """Figures of a moment."""
        for name, n_bytes in now.items():
            setattr(self, name, max(getattr(self, name), n_bytes))


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a request waited for its first token."""

    client: str
    new_tokens: int
    waited_s: float
    alone_s: float
    """What it would have waited with the machine to itself."""
    steps: int
    """Steps of the engine until its prompt was first read."""


@dataclass(slots=True)
class Report:
    """What became of a day."""

    hours: float
    machine: Machine
    meter: Meter
    peaks: Peaks = field(default_factory=Peaks)
    waits: list[Wait] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    conversations: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)
    prompt_tokens: int = 0
    known_tokens: int = 0
    ever_known_tokens: int = 0
    """What an unlimited cache would have known of the same prompts."""
    most_waiting: int = 0
    n_steps: int = 0
    evicted: dict[str, int] = field(default_factory=dict)
    unwritten: int = 0

    @property
    def hit_rate(self) -> float:
        """Known tokens, of all."""
        return self.known_tokens / max(1, self.prompt_tokens)

    @property
    def best_hit_rate(self) -> float:
        """The same of a cache without a limit."""
        return self.ever_known_tokens / max(1, self.prompt_tokens)

    def of_size(self, over: int, up_to: int) -> list[Wait]:
        """Waits of requests with so many new tokens; none of those that come in bursts."""
        return [
            each for each in self.waits if over < each.new_tokens <= up_to and each.client != BURSTS
        ]

    def lines(self) -> Iterator[str]:
        """All of it, as a text."""
        peaks, n, limit = self.peaks, self.outcomes, self.machine.kv_limit_bytes
        yield (
            f"{len(self.conversations)} conversations, {len(self.agents)} sub-agents,"
            f" {sum(n.values()):,} requests, {self.n_steps:,} steps"
        )
        yield "ends: " + ", ".join(f"{each.value} {count:,}" for each, count in n.most_common())
        yield f"{'GB of KV caches, at most':<40}{'':>10}(<= {limit / GB:.1f})"
        for name, n_bytes in (
            ("between two steps", peaks.between_steps),
            ("at any moment", self.meter.peak_bytes),
            ("stored", peaks.stored),
            ("of that, not yet on disk", peaks.waiting_for_disk),
            ("of that, in 8 bits", peaks.quantized),
            ("running, with padding", peaks.running),
        ):
            yield f"  {name:<38}{n_bytes / GB:>10.1f}"
        yield f"{'prompt tokens known':<40}{self.hit_rate:>10.2%}"
        yield f"{'  by a cache without a limit':<40}{self.best_hit_rate:>10.2%}"
        yield "evicted: " + ", ".join(f"{name} {n:,}" for name, n in self.evicted.items())
        yield (
            f"{'new tokens':<16}{'requests':>10}{'median s':>10}{'95 % s':>10}{'worst s':>10}"
            f"{'/ alone':>10}{'steps':>8}{'95 %':>8}"
        )
        over = 0
        for up_to in SIZES:
            name = f"up to {up_to:,}" if up_to < SIZES[-1] else f"above {over:,}"
            yield from _row(name, self.of_size(over, up_to))
            over = up_to
        yield from _row("all in bursts", [each for each in self.waits if each.client == BURSTS])


def _row(name: str, waits: Sequence[Wait]) -> Iterator[str]:
    if not waits:
        return
    waited = sorted(each.waited_s for each in waits)
    steps = sorted(each.steps for each in waits)
    times = statistics.median(each.waited_s / each.alone_s for each in waits)
    yield (
        f"{name:<16}{len(waits):>10}{part_of(waited, 0.5):>10.2f}"
        f"{part_of(waited, 0.95):>10.2f}{waited[-1]:>10.2f}{times:>10.1f}"
        f"{part_of(steps, 0.5):>8.0f}{part_of(steps, 0.95):>8.0f}"
    )


def part_of(ordered: Sequence[float], share: float) -> float:
    """The value that such a share of them is below."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
