"""A server that answers nobody: it works out what each request would cost, and tells telemetry.

One engine reads prompts one after the other, and writes all answers at the same time; the more
there are, the slower each.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mlxdeck.telemetry.schema import events as t
from tests.corpora.day import lines
from tests.corpora.day.caches import AnswerCache, Lookup, StateCache
from tests.corpora.day.requests import Ask, Outcome, Times
from tests.corpora.day.simulation import Simulation

Done = Callable[[Outcome], None]
Emit = Callable[[t.Attrs, str, str], None]
"""(attributes, request id, session id)"""

TOKENIZE_TOKENS_PER_S = 450_000.0
LISTEN_S = 0.001
ANSWER_MAX_AGE_S = 9_000.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the server runs on, and how it was started."""

    model: str = "Qwen3-30B-A3B-4bit"
    prefill_tokens_per_s: float = 1_450.0
    decode_tokens_per_s: float = 62.0
    max_batch: int = 16
    max_waiting: int = 24
    window_tokens: int = 131_072
    cached_tokens: int = 300_000
    """Of states in RAM."""
    kv_bytes_per_token: int = 98_304
    model_bytes: int = 17_200_000_000

    def times(self, factor: float) -> Machine:
        """One that is so many times as fast, and holds as many times more."""
        return replace(
            self,
            prefill_tokens_per_s=self.prefill_tokens_per_s * factor,
            decode_tokens_per_s=self.decode_tokens_per_s * max(1.0, factor / 4),
            max_batch=round(self.max_batch * factor),
            max_waiting=round(self.max_waiting * factor),
            cached_tokens=round(self.cached_tokens * factor),
        )


@dataclass(slots=True, eq=False)
class Running:
    """A request that has begun and not ended."""

    id: str
    ask: Ask
    done: Done
    began_s: float
    times: Times | None = None
    known: Lookup = field(default_factory=Lookup)
    ended: bool = False
    followers: list[Running] = field(default_factory=list)
    """Who waits for the same answer."""


class Server:
    """One process of `mlxdeck serve` after the other."""

    def __init__(
        self, simulation: Simulation, machine: Machine, chance: random.Random, emit: Emit
    ) -> None:
        self.machine = machine
        self.up = False
        self.answers = AnswerCache(1000, ANSWER_MAX_AGE_S, machine.model)
        self.states = StateCache(machine.cached_tokens, machine.model)
        self.running: list[Running] = []
        self.n_requests = self.n_errors = 0
        self._simulation = simulation
        self._chance = chance
        self._emit = emit
        self._reader_free_s = 0.0
        self._flights: dict[str, Running] = {}
        self.peak_bytes = 0

    @property
    def model(self) -> str:
        """What is loaded."""
        return self.machine.model

    def start(self, model: str = "") -> None:
        """A new process; what was in RAM is gone."""
        self.machine = replace(self.machine, model=model or self.model)
        self.answers.restart(self.model)
        self.states.restart(self.model)
        self.running, self._flights = [], {}
        self.n_requests = self.n_errors = 0
        self.peak_bytes = 0
        self._reader_free_s = self._simulation.now_s
        self.up = True

    def stop(self, *, killed: bool = False) -> None:
        """End the process; one that is killed tells nothing of what it was doing."""
        self.up = False
        for running in list(self.running):
            if killed:
                running.ended = True
                running.done(Outcome.DOWN)
            else:
                self.fail(running, lines.STOPPED, "generate")
        self.running = []

    def answer(self, ask: Ask, done: Done) -> None:
        """Take a request."""
        now_s, after = self._simulation.now_s, self._simulation.after
        if not self.up:
            after(LISTEN_S, lambda: done(Outcome.DOWN))
            return
        self.n_requests += 1
        running = Running(f"req_{self._chance.randbytes(12).hex()}", ask, done, now_s)
        self.running.append(running)
        if ask.malformed:
            self._tell(running, t.RequestStart(dialect=ask.conversation.client.dialect))
            self.fail(running, lines.refused(ask.malformed), "decode")
            return
        self._tell(running, lines.start(ask, self.n_waiting))
        if not self._known_answer(running):
            after(self._tokenize_s(ask), lambda: self._prepared(running))

    @property
    def n_waiting(self) -> int:
        """How many have no place yet."""
        now_s = self._simulation.now_s
        return sum(each.times is not None and each.times.begins_s > now_s for each in self.running)

    @property
    def n_active(self) -> int:
        """How many are read or answered."""
        return len(self.running) - self.n_waiting

    def _tokenize_s(self, ask: Ask) -> float:
        return 0.0015 + ask.prompt.n_tokens / TOKENIZE_TOKENS_PER_S

    def _known_answer(self, running: Running) -> bool:
        """Look for the whole answer; whether one is there, or under way."""
        ask, now_s = running.ask, self._simulation.now_s
        looked_s = 2e-5 + self._chance.expovariate(5e4)
        known = Lookup(reason="bypassed") if ask.fresh else self.answers.find(ask.key, now_s)
        first = None if ask.fresh or known.tier else self._flights.get(ask.key)
        if first is not None:
            known = Lookup(tier="flight")
        if known.tier == "disk":
            looked_s += 0.0015
        running.known = replace(known, n_tokens=ask.prompt.n_tokens if known.tier else 0)
        self._tell(running, lines.exact_lookup(ask.key, known, looked_s))
        if first is not None:
            first.followers.append(running)
            return True
        if known.tier:
            self._simulation.after(looked_s + 0.0009, lambda: self._finish(running))
            return True
        if not ask.fresh:
            self._flights[ask.key] = running
        return False

    def _prepared(self, running: Running) -> None:
        """The prompt is counted: look for its state, and find a place."""
        if running.ended:
            return
        ask, now_s, machine = running.ask, self._simulation.now_s, self.machine
        n_tokens = ask.prompt.n_tokens
        if n_tokens >= machine.window_tokens:
            error = lines.too_long(n_tokens, machine.window_tokens - 1)
            self.fail(running, error, "prepare", Outcome.TOO_LONG)
            return
        known = self.states.find(ask.conversation.name, ask.prompt)
        running.known = known
        self._tell(running, lines.prefix_lookup(ask, known, 0.0004))
        if self.n_waiting >= machine.max_waiting + max(0, machine.max_batch - self.n_active):
            self.fail(running, lines.busy(self.n_waiting), "prepare", Outcome.BUSY)
            return
        new_tokens = n_tokens - known.n_tokens
        begins_s = max(now_s, self._place_free_s(), self._reader_free_s) + 0.002
        read_s = new_tokens / machine.prefill_tokens_per_s / self._chance.uniform(0.9, 1.1) + 0.03
        first_s = begins_s + read_s
        self._reader_free_s = first_s
        decode_s = ask.output_tokens / self._decode_rate()
        tokenized_s = running.began_s + self._tokenize_s(ask)
        running.times = Times(running.began_s, tokenized_s, begins_s, first_s, first_s + decode_s)
        self._simulation.at(first_s, lambda: self._first_token(running))
        for number, call in enumerate(ask.calls, 1):
            moment_s = first_s + decode_s * (0.3 + 0.69 * number / len(ask.calls))
            attrs = lines.tool_call(call, number - 1, held=not ask.fresh)
            self._simulation.at(moment_s, lambda attrs=attrs: self._tell(running, attrs))  # type: ignore[misc]
        self._simulation.at(first_s + decode_s, lambda: self._finish(running))
        if ask.leaves_after_s:
            self._simulation.after(ask.leaves_after_s, lambda: self._leave(running))

    def _place_free_s(self) -> float:
        """When there is a place among those that run together."""
        ends = sorted(each.times.ends_s for each in self.running if each.times)
        n_over = len(ends) - self.machine.max_batch
        return ends[n_over] if n_over >= 0 else 0.0

    def _decode_rate(self) -> float:
        together = 1 + sum(each.times is not None for each in self.running)
        return (
            self.machine.decode_tokens_per_s / (1 + 0.11 * together) * self._chance.uniform(0.9, 1)
        )

    def _first_token(self, running: Running) -> None:
        if not running.ended:
            self._tell(running, lines.first_token(running))

    def _finish(self, running: Running) -> None:
        """The answer is whole."""
        if running.ended:
            return
        ask, now_s = running.ask, self._simulation.now_s
        if ask.let_go:
            self.fail(running, lines.broken(ask.let_go), "generate")
            return
        if running.times is None:
            for number, call in enumerate(ask.calls):
                self._tell(running, lines.tool_call(call, number, held=True))
        else:
            self.states.keep(ask.conversation.name, ask.prompt)
            wrong = any(call.parse_error or not call.valid for call in ask.calls)
            if ask.ended_by or wrong:
                self.answers.refuse(ask.key)
            else:
                self.answers.keep(ask.key, now_s)
        self._end(running, lines.end(running, self.model, now_s), Outcome.OK)

    def _leave(self, running: Running) -> None:
        """Its client has hung up; who waits for the same answer goes on without it."""
        if running.ended or running.followers:
            return
        self.states.keep(running.ask.conversation.name, running.ask.prompt)
        now_s = self._simulation.now_s
        self._end(running, lines.end(running, self.model, now_s, cancelled=True), Outcome.LEFT)

    def fail(
        self, running: Running, error: t.Error, phase: str, outcome: Outcome | None = None
    ) -> None:
        """A request ends in an error."""
        if running.ended:
            return
        self.n_errors += 1
        self._tell(running, lines.in_phase(error, phase))
        outcome = outcome or (Outcome.FAILED if error.retryable else Outcome.REFUSED)
        now_s = self._simulation.now_s
        self._end(running, lines.end(running, self.model, now_s, error=error), outcome)

    def fail_all(self, error: t.Error) -> None:
        """The engine failed, and all that it was doing."""
        for running in [each for each in self.running if each.times]:
            self.fail(running, error, "generate")

    def _end(self, running: Running, attrs: t.RequestEnd, outcome: Outcome) -> None:
        self._tell(running, attrs)
        running.ended = True
        if running in self.running:
            self.running.remove(running)
        if self._flights.get(running.ask.key) is running:
            del self._flights[running.ask.key]
        for follower in running.followers:
            if outcome is Outcome.OK:
                self._finish(follower)
            else:
                self.fail(follower, lines.FAILED, "generate")
        running.done(outcome)

    def _tell(self, running: Running, attrs: t.Attrs) -> None:
        if not running.ended:
            self._emit(attrs, running.id, running.ask.conversation.session_id)
