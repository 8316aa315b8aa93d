"""Exact answers in RAM: least recently used goes first, by number and by bytes.

Used from the event loop only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from mlxdeck.server.messages import Event, Finished, Ping, Started, TextDelta, ThinkingDelta, Usage

# What an entry costs beside its text: objects, key, bookkeeping. Measured with tracemalloc.
ENTRY_BYTES = 1_000
EVENT_BYTES = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer as events, from its first delta to `Finished`."""

    deltas: tuple[Event, ...]
    finished: Finished
    n_bytes: int

    async def replay(self) -> AsyncGenerator[Event]:
        """The answer again, as if every prompt token had been cached."""
        finished = self.finished
        n_tokens = finished.usage.input_tokens
        yield Started(Usage(n_tokens, n_tokens), cache="hit")
        for delta in self.deltas:
            yield delta
        usage = Usage(n_tokens, n_tokens, finished.usage.output_tokens)
        yield Finished(finished.reason, usage, finished.stop_sequence)


def complete_answer(events: Iterable[Event]) -> Answer | None:
    """Make an answer of what was sent, or None if it may not be repeated.

    Adjoining deltas are joined. An answer that did not finish, or was cut off by its token limit,
    is none: the client that asks again wants the rest.
    """
    joined = _joined(events)
    last = joined.pop() if joined else None
    if not isinstance(last, Finished) or last.reason == "max_tokens":
        return None
    n_chars = sum(len(str(delta)) for delta in joined)
    return Answer(tuple(joined), last, ENTRY_BYTES + EVENT_BYTES * len(joined) + n_chars)


def _joined(events: Iterable[Event]) -> list[Event]:
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, ThinkingDelta) and isinstance(last, ThinkingDelta):
            joined[-1] = ThinkingDelta(last.text + event.text)
        elif not isinstance(event, Started | Ping):
            joined.append(event)
    return joined


class ResponseCache:
    """Answers by their key."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self.n_bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def enabled(self) -> bool:
        """Whether it can hold anything at all."""
        return self._max_entries > 0 and self._max_bytes > 0

    def get(self, key: str) -> Answer | None:
        """Look an answer up, and count how that went."""
        answer = self._answers.get(key)
        if answer is None:
            self.misses += 1
            return None
        self._answers.move_to_end(key)
        self.hits += 1
        return answer

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, dropping the longest unused for it; one that is too large is not kept."""
        if answer.n_bytes > self._max_bytes or not self.enabled:
            return
        self._drop(key)
        self._answers[key] = answer
        self.n_bytes += answer.n_bytes
        while len(self._answers) > self._max_entries or self.n_bytes > self._max_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: str) -> None:
        answer = self._answers.pop(key, None)
        if answer:
            self.n_bytes -= answer.n_bytes

    def clear(self) -> int:
        """Drop every answer; return how many there were."""
        n_entries = len(self._answers)
        self._answers.clear()
        self.n_bytes = 0
        return n_entries
