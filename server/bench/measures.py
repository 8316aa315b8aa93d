"""What is measured: each group asks all servers in turn, so that a noisy machine is fair to all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mlxdeck.server.bench.bench_client import BenchClient, NotMeasured
from mlxdeck.server.bench.figures import CLIENTS, Measured, Say
from mlxdeck.server.bench.sizes import SHARES, ServerPace, Sizes
from mlxdeck.server.bench.texts import (
    FORM,
    QUESTIONS,
    REPORT,
    STORY,
    copied_share,
    prose,
    rewrite_request,
    source_file,
)
from mlxdeck.server.bench.wire import Asked, TimedAnswer

SHORT_TOKENS = 16
"""Of answers whose first token is all that counts."""
HELD_TOKENS = 300
ENDING_TOKENS = 1024
"""Of an answer that has to end by itself to be repeated, perhaps behind some thinking."""
N_REPEATS = 30
REPEATS_S = 10.0
PACE_WORDS = 150
PASSLESS = ("forced_tokens", "accepted_tokens")
"""Totals of tokens that came without a pass: a grammar's, and right guesses."""
TOTALS_S = 1.0
KNOWN_ENDING = "What is the capital of France? Answer in one word."


@dataclass(slots=True)
class BenchTarget:
    """A server that is measured."""

    name: str
    client: BenchClient
    restart: Callable[[], BenchClient] | None = None
    """Ends it and starts it again with the same home; None if it isn't ours."""
    measured: Measured = field(default_factory=Measured)


def pace_of(client: BenchClient, run: str) -> ServerPace:
    """How fast a server is; its first requests, which take longer, are left out.

    Raises:
        NotMeasured: It can't answer.
    """
    for number in range(2):
        asked = Asked((prose(f"{run} pace {number}", PACE_WORDS) + STORY,), SHORT_TOKENS * 2)
        answer = client.ask(asked)
    n_words = len(asked.turns[0].split())
    n_tokens = answer.heard.input_tokens or int(1.4 * n_words)
    return ServerPace(
        n_tokens / answer.first_s,
        answer.tokens_per_s or answer.n_tokens / answer.whole_s,
        n_tokens / n_words,
    )


class Bench:
    """Runs the groups over some servers."""

    def __init__(
        self, targets: Sequence[BenchTarget], sizes: Sizes, run: str, progress: Say
    ) -> None:
        """`run` makes all prompts differ from those of other runs."""
        self._targets = targets
        self._sizes = sizes
        self._run = run
        self._progress = progress
        self._known: dict[str, str] = {}
        """The system prompt that a server knows, by its name."""

    def measure(self, groups: Sequence[str]) -> None:
        """Fill in what was measured of each server."""
        works: dict[str, Callable[[BenchTarget, int], None]] = {
            "prompts": self._prompts,
            "repeat": self._repeat,
            "clients": self._clients,
            "rewrite": self._rewrite,
            "held": self._held,
            "restart": self._restart,
        }
        rounds = {"repeat": 1, "restart": 1, "clients": 2, "rewrite": 2}
        for group in groups:
            n_rounds = min(self._sizes.n_rounds, rounds.get(group, self._sizes.n_rounds))
            self._in_turn(group, works[group], n_rounds)

    def _in_turn(self, group: str, work: Callable[[BenchTarget, int], None], n_rounds: int) -> None:
        began_s = time.monotonic()
        limit_s = SHARES.get(group, 1.0) * self._sizes.budget_s * len(self._targets)
        for number in range(n_rounds):
            # A further round as long as the mean so far must not go far beyond the time.
            spent_s = time.monotonic() - began_s
            if number and spent_s * (number + 1) / number > 1.5 * limit_s:
                return
            first = number % len(self._targets)
            for target in (*self._targets[first:], *self._targets[:first]):
                if group not in target.measured.lacking:
                    shown = f", round {number + 1} of {n_rounds}" if n_rounds > 1 else ""
                    self._progress(f"{target.name}: {group}{shown}")
                    with _lacking(target, group):
                        work(target, number)

    def _prompts(self, target: BenchTarget, number: int) -> None:
        """A prompt that nobody knows, its second turn, and the same with another question."""
        sizes, measured, ask = self._sizes, target.measured, target.client.ask
        # The answer's tokens too are known in the second turn.
        system = prose(f"{self._run} {number}", sizes.prompt_words)
        first = ask(Asked((QUESTIONS[0],), SHORT_TOKENS, system))
        news = prose(f"{self._run} news {number}", sizes.new_words)
        turns = (QUESTIONS[0], first.heard.text or "Nobody knows.", news + QUESTIONS[1])
        second = ask(Asked(turns, SHORT_TOKENS, system))
        other = ask(Asked((QUESTIONS[2],), SHORT_TOKENS, system))
        self._known[target.name] = system
        n_tokens = first.heard.input_tokens
        measured.add("prompt_tokens", n_tokens)
        measured.add("cold_ttft_s", first.first_s)
        if n_tokens:
            measured.add("prefill_tokens_per_s", n_tokens / first.first_s)
        for name, answer in (("turn_two", second), ("known", other)):
            measured.add(f"{name}_ttft_s", answer.first_s)
            measured.add(f"{name}_computed", answer.computed_share)
        if n_tokens and second.heard.input_tokens:
            n_new = second.heard.input_tokens - n_tokens
            measured.add("turn_two_of_new", second.first_s / (n_new * first.first_s / n_tokens))

    def _repeat(self, target: BenchTarget, _: int) -> None:
        asked = Asked((f"{self._run}. {KNOWN_ENDING}",), ENDING_TOKENS)
        target.client.ask(asked, fresh=False)
        began_s = time.monotonic()
        for _ in range(N_REPEATS):
            answer = target.client.ask(asked, fresh=False)
            target.measured.add("repeat_ms", 1000 * answer.whole_s)
            if time.monotonic() - began_s > REPEATS_S:
                break

    def _clients(self, target: BenchTarget, number: int) -> None:
        n_tokens = self._sizes.answer_tokens
        for n_clients in CLIENTS:
            names = [f"{self._run} {number}.{n_clients}.{n}" for n in range(n_clients)]
            asked = [Asked((prose(name, 24) + STORY,), n_tokens) for name in names]
            began_s = time.perf_counter()
            answers = at_once(target.client, asked)
            took_s = time.perf_counter() - began_s
            n_written = sum(answer.n_tokens for answer in answers)
            target.measured.add(f"tokens_per_s_{n_clients}", n_written / took_s)

    def _rewrite(self, target: BenchTarget, number: int) -> None:
        """The same file in both prompts; only one of the answers repeats it."""
        content = source_file(f"{self._run} {number}", self._sizes.file_parts)
        n_tokens, ask = self._sizes.rewrite_tokens, target.client.ask
        again = counted(target.client, Asked((rewrite_request(content),), n_tokens))
        plain = ask(Asked((f"```python\n{content}```\n\nForget this file. {STORY}",), n_tokens))
        target.measured.add("rewrite_tokens_per_s", again.tokens_per_s or None)
        target.measured.add("plain_tokens_per_s", plain.tokens_per_s or None)
        target.measured.add("rewrite_tokens_per_pass", again.tokens_per_pass)
        target.measured.add("rewrite_copied", copied_share(again.heard.text, content))

    def _held(self, target: BenchTarget, number: int) -> None:
        """Both prompts are known, so that the whole time is that of the answer."""
        report = f"{self._run} {number}. {REPORT}"
        form = Asked((f"{report} File a report on it.",), HELD_TOKENS, form=FORM)
        _learn(target.client, form)
        held = counted(target.client, form)
        if not held.fills(FORM):
            raise NotMeasured("it did not hold the answer to the schema")
        free = Asked((f"{report} {STORY}",), max(SHORT_TOKENS, held.n_tokens))
        _learn(target.client, free)
        target.measured.add("held_tokens_per_pass", held.tokens_per_pass)
        for name, answer in (("held", held), ("free", target.client.ask(free))):
            target.measured.add(f"{name}_tokens_per_s", answer.n_tokens / answer.whole_s)

    def _restart(self, target: BenchTarget, _: int) -> None:
        if target.restart is None:
            raise NotMeasured("only a server that this command starts is started again")
        if target.name not in self._known:
            self._prompts(target, 0)
        system = self._known[target.name]
        target.client = target.restart()
        # The first request pays for what a process does once.
        target.client.ask(Asked((prose(f"{self._run} again", 24),), SHORT_TOKENS))
        answer = target.client.ask(Asked((QUESTIONS[1],), SHORT_TOKENS, system))
        target.measured.add("restart_ttft_s", answer.first_s)
        target.measured.add("restart_computed", answer.computed_share)


def _learn(client: BenchClient, asked: Asked) -> None:
    """Ask for one token, so that prompt and schema are known from here on."""
    client.ask(Asked(asked.turns, 1, asked.system, asked.form))


@contextmanager
def _lacking(target: BenchTarget, group: str) -> Iterator[None]:
    """Record why a group can't be measured."""
    try:
        yield
    except NotMeasured as reason:
        target.measured.lacking[group] = str(reason)


def counted(client: BenchClient, asked: Asked) -> TimedAnswer:
    """An answer, and how many of its tokens needed no pass; nobody else may ask meanwhile."""
    before = client.totals()
    answer = client.ask(asked)
    until_s = time.monotonic() + TOTALS_S
    while True:
        grown = {name: value - before.get(name, 0.0) for name, value in client.totals().items()}
        # The server's books are closed a moment after the answer's last byte.
        if grown.get("generation_tokens", 0) >= answer.n_tokens:
            passless = sum(grown.get(name, 0.0) for name in PASSLESS)
            return replace(answer, passless_tokens=int(passless))
        if "generation_tokens" not in grown or time.monotonic() > until_s:
            return answer
        time.sleep(TOTALS_S / 20)


def at_once(client: BenchClient, asked: Sequence[Asked]) -> list[TimedAnswer]:
    """All requests at the same time.

    Raises:
        NotMeasured: One of them failed.
    """
    answers: list[TimedAnswer] = []
    failures: list[NotMeasured] = []

    def ask(each: Asked) -> None:
        try:
            answers.append(client.ask(each))
        except NotMeasured as failure:
            failures.append(failure)

    # Nobody waits for them after Ctrl+C: they end with the process.
    threads = [threading.Thread(target=ask, args=(each,), daemon=True) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return answers
