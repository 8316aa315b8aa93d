"""Exact answers in RAM: least recently used goes first, by number and by bytes.

Used from the event loop only.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.cache_keys import request_of
from mlxdeck.server.cache.cache_stats import CacheStats, Counts
from mlxdeck.server.chat import (
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from mlxdeck.server.joined_events import JoinedEvents

# What an entry costs beside its text: objects, key, bookkeeping. Measured with tracemalloc.
ENTRY_BYTES = 1_000
EVENT_BYTES = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer as events, from its first delta to `Finished`."""

    deltas: tuple[Event, ...]
    finished: Finished
    n_bytes: int
    cost_s: float = 0.0
    """How long it took to generate."""
    made_s: float = 0.0
    """When it was generated, in seconds of Unix time."""

    def events(self) -> Iterator[Event]:
        """The answer again, as if every prompt token had been cached."""
        known = self.finished.usage.known()
        yield Started(replace(known, output_tokens=0), cache="hit")
        yield from self.deltas
        yield replace(self.finished, usage=known)

    def remaining_s(self, max_age_s: float) -> float:
        """How much longer it may be repeated; an age of 0 is no limit."""
        return remaining_s(self.made_s, max_age_s)


def remaining_s(made_s: float, max_age_s: float) -> float:
    """How much longer an answer may be repeated that was made then."""
    # A clock that was set back makes nothing younger than new.
    age_s = max(0.0, time.time() - made_s)
    return max_age_s - age_s if max_age_s else math.inf


def complete_answer(events: Iterable[Event], cost_s: float = 0.0) -> Answer | None:
    """Make an answer of the events that were sent, or None if it must not be repeated.

    Adjoining deltas are joined. An answer that reached its token limit is repeated: an identical
    request has the same limit. Unfinished, empty or repetitive answers, and answers with a wrong
    call, are not repeated: a client that asks again hopes for another result.
    """
    listed = JoinedEvents()
    for event in events:
        listed.add(event)
    joined = listed.events
    last = joined[-1] if joined else None
    if not isinstance(last, Finished) or last.ended_by or last.n_bad_calls:
        return None
    if not any(map(_says, joined)) or any(map(_is_wrong, joined)):
        return None
    return answer_of(joined, cost_s, time.time())


def _size(delta: Event) -> int:
    match delta:
        case TextDelta(text) | ThinkingDelta(text) | ToolCallDelta(text):
            return len(text)
        case _:
            return len(str(delta))


def _says(event: Event) -> bool:
    """Whether it is more than thinking or blank text."""
    return isinstance(event, ToolCallStart) or (
        isinstance(event, TextDelta) and bool(event.text.strip())
    )


def _is_wrong(event: Event) -> bool:
    return isinstance(event, ToolCallEnd) and event.schema_valid is False


def answer_of(events: list[Event], cost_s: float, made_s: float = 0.0) -> Answer:
    """An answer of its deltas and a last `Finished`."""
    *deltas, finished = events
    assert isinstance(finished, Finished)
    n_chars = sum(map(_size, deltas))
    n_bytes = ENTRY_BYTES + EVENT_BYTES * len(deltas) + n_chars
    return Answer(tuple(deltas), finished, n_bytes, cost_s, made_s)


class MemoryAnswers:
    """Answers by their key."""

    def __init__(self, max_entries: int, max_bytes: int, max_age_s: float = 0.0) -> None:
        """`max_age_s` of 0 is no limit."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._requests: Counter[str] = Counter()
        self.gone = LossReasons()
        self.n_bytes = 0
        self.stats = CacheStats()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def enabled(self) -> bool:
        """Whether it can hold anything at all."""
        return self._max_entries > 0 and self._max_bytes > 0

    def get(self, key: str) -> Answer | None:
        """Look an answer up, and count how that went."""
        answer = self._answers.get(key)
        if answer is not None and answer.remaining_s(self._max_age_s) <= 0:
            self._give_up(key, "expired")
            answer = None
        if answer is None:
            self.stats.add(Counts(misses=1))
            return None
        self._answers.move_to_end(key)
        self.stats.add(counted(answer))
        return answer

    def knows_request(self, request: str) -> bool:
        """Whether any model's answer to the request is here."""
        return self._requests[request] > 0

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, dropping the longest unused for it; one that is too large is not kept."""
        if answer.n_bytes > self._max_bytes or not self.enabled:
            return
        self._drop(key)
        self.gone.back(key)
        self._answers[key] = answer
        self._requests[request_of(key)] += 1
        self.n_bytes += answer.n_bytes
        while len(self._answers) > self._max_entries or self.n_bytes > self._max_bytes:
            self._give_up(next(iter(self._answers)), "evicted")

    def expire(self) -> None:
        """Drop answers that are too old."""
        for key, answer in list(self._answers.items()):
            if answer.remaining_s(self._max_age_s) <= 0:
                self._give_up(key, "expired")

    def _give_up(self, key: str, reason: str) -> None:
        self._drop(key)
        self.gone.add(key, reason)
        self.stats.evictions["room" if reason == "evicted" else reason] += 1

    def _drop(self, key: str) -> None:
        answer = self._answers.pop(key, None)
        if answer:
            self.n_bytes -= answer.n_bytes
            request = request_of(key)
            self._requests[request] -= 1
            if not self._requests[request]:
                del self._requests[request]

    def clear(self) -> int:
        """Drop every answer; return how many there were."""
        n_entries = len(self._answers)
        self._answers.clear()
        self._requests.clear()
        self.n_bytes = 0
        return n_entries


def counted(answer: Answer) -> Counts:
    """A hit, as `CacheStats` counts it."""
    n_tokens = answer.finished.usage.input_tokens or 0
    return Counts(hits=1, hit_tokens=n_tokens, prompt_tokens=n_tokens, saved_s=answer.cost_s)
