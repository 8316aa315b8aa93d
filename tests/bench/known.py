"""The next turn of a known conversation, against a bare loop that reads its new tokens alone.

The loop holds the state of all tokens before them already, so no server can be faster.
"""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.schema.events import FirstToken
from tests.bench.competitors import Bare
from tests.bench.figures import LIMIT, figure
from tests.bench.load import Connection, heading
from tests.real import Server, get, serving

N_ROUNDS = 2
N_AT_ONCE = 8
FILLER = "The ship sailed on over the grey and quiet water, and nobody said a word. "
KNOWN_LINES = 90
NEW_LINES = 18
"""About 1,500 tokens and about 325."""
SHORT_KNOWN_LINES, SHORT_NEW_LINES = 20, 6


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of two turns."""

    name: str
    n_lines: int
    n_new_lines: int

    @property
    def system(self) -> str:
        """What is long and known in the second turn."""
        return f"You are sailor {self.name}. " + FILLER * self.n_lines

    @property
    def first(self) -> tuple[str, ...]:
        """Its first turn."""
        return ("Who are you?",)

    @property
    def second(self) -> tuple[str, ...]:
        """Its second turn."""
        return (*self.first, "A sailor.", f"{self.name} things happened. " + self.news)

    @property
    def news(self) -> str:
        """What the second turn adds."""
        return FILLER * self.n_new_lines


def ask(server: Server, system: str, *texts: str) -> FirstToken:
    """Ask past the exact cache; texts are turns. Returns what telemetry tells of the prefill."""
    return together(server, [(system, texts)])[0]


def together(server: Server, asked: list[tuple[str, tuple[str, ...]]]) -> list[FirstToken]:
    """Several at the same time."""
    n_before = len(server.ended())

    def send(system: str, texts: tuple[str, ...]) -> None:
        messages = [
            {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
        ]
        fields: dict[str, Any] = {"model": "local", "max_tokens": 2, "temperature": 0}
        body = json.dumps({**fields, "system": system, "messages": messages}).encode()
        connection = Connection(server.url)
        connection.post("/v1/messages", body, **{"cache-control": "no-cache"})
        connection.close()

    threads = [threading.Thread(target=send, args=each) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.ended(n_before + len(asked))
    found = [line.attrs for line in server.events() if isinstance(line.attrs, FirstToken)]
    return found[-len(asked) :]


def known_conversations() -> None:
    """In RAM, after a restart, and eight of them at the same time."""
    heading("First token of a known conversation's next turn, SmolLM2, 1,500 tokens before it")
    talks = [Talk(str(n), KNOWN_LINES, NEW_LINES) for n in range(2 * N_ROUNDS)]
    with tempfile.TemporaryDirectory() as name:
        with serving(home=Path(name)) as server:
            bare = Bare(get(f"{server.url}/v1/status")["model_path"])
            bare.turn_s(100, 100)
            ask(server, "Warm up.", "Hello.")
            known = [ask(server, talk.system, *talk.first).prefill_tokens for talk in talks]
            for talk, n_known in zip(talks[:N_ROUNDS], known, strict=False):
                second(server, bare, talk, n_known, "known_ram")
        with serving(home=Path(name)) as server:
            ask(server, "Warm up again.", "Hello.")
            for talk, n_known in zip(talks[N_ROUNDS:], known[N_ROUNDS:], strict=True):
                second(server, bare, talk, n_known, "known_restart")
            eight_at_once(server, bare)
        bare.close()
    for row in ("known_ram", "known_restart", "known_8"):
        figure(row, 1.0, LIMIT)


def second(server: Server, bare: Bare, talk: Talk, n_known: int, row: str) -> None:
    """One second turn, and the bare loop with its new tokens alone."""
    turn = ask(server, talk.system, *talk.second)
    n_new = new_tokens(bare, talk)
    alone_s = bare.turn_s(n_known, n_new)
    print(f"{n_known} known, {n_new} new: {turn.ttft_s:.2f} s, bare loop {alone_s:.2f} s")
    figure(row, turn.ttft_s / alone_s)
    figure("known_computed", turn.prefill_tokens / n_new)


def eight_at_once(server: Server, bare: Bare) -> None:
    """Until the last of them has its first token, against the loop with one after the other."""
    talks = [Talk(f"of ship {n}", SHORT_KNOWN_LINES, SHORT_NEW_LINES) for n in range(N_AT_ONCE)]
    firsts = [ask(server, talk.system, *talk.first) for talk in talks]
    seconds = together(server, [(talk.system, talk.second) for talk in talks])
    alone_s = sum(
        bare.turn_s(first.prefill_tokens, new_tokens(bare, talk))
        for first, talk in zip(firsts, talks, strict=True)
    )
    last_s = max(each.ttft_s for each in seconds)
    print(f"{N_AT_ONCE} at once: the last after {last_s:.2f} s, bare loop {alone_s:.2f} s")
    figure("known_8", last_s / alone_s)


def new_tokens(bare: Bare, talk: Talk) -> int:
    """Tokens that the second turn adds, template included."""
    return bare.n_tokens(talk.system, *talk.second) - bare.n_tokens(talk.system, *talk.first)
