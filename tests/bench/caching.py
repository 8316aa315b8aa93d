"""What the caches save: repeats, second turns, restarts, and the canonical form rule by rule."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from mlxdeck.server.canonicalize import RULE_NAMES
from tests.bench.competitors import PEERS, peers
from tests.bench.figures import LIMIT, figure
from tests.bench.known import FILLER, ask
from tests.bench.load import Connection, heading
from tests.e2e.recorder import TASK, record
from tests.e2e.reuse import conversation, smollm2_renderer, turns
from tests.real import get, serving

ROUNDS = 2


def canonical_rules() -> None:
    """Reuse in a real conversation, with every rule and with each left out."""
    heading("Claude Code, 5 turns, 4 tool calls: tokens of a prompt known from the turn before")
    # Two tasks, for some of what changes does so only from one session to the next.
    tasks = (TASK, "What is in the four text files here? Read them one by one.")
    with tempfile.TemporaryDirectory() as name:
        runs = [conversation(asyncio.run(record(Path(name), task))) for task in tasks]
    print(f"{'canonical form':<28}{'worst turn':>12}{'all turns':>12}{'next session':>14}")
    for name in ("", *RULE_NAMES, "all"):
        off = RULE_NAMES if name == "all" else (name,) if name else ()
        renderer = smollm2_renderer(off)
        found = turns(renderer, runs[0], off)
        again = turns(renderer, [runs[0][0], runs[1][0]], off)[0]
        total = sum(turn.reused_tokens for turn in found) / sum(t.prompt_tokens for t in found)
        title = f"without {name}" if name else "complete"
        worst = min(turn.share for turn in found)
        print(f"{title:<28}{worst:>12.1%}{total:>12.1%}{again.share:>14.1%}", flush=True)
        if not name:
            complete = found
    shares = [turn.reused_tokens / turn.old_tokens for turn in complete]
    n_reused, n_old, n_all = (
        sum(getattr(turn, name) for turn in complete)
        for name in ("reused_tokens", "old_tokens", "prompt_tokens")
    )
    figure("reused_worst", min(shares))
    figure("reused_old", n_reused / n_old)
    figure("reused_all", n_reused / n_all)
    figure("reused_all", n_old / n_all, LIMIT)


def restarts() -> None:
    """A known prefix of 2,000 tokens after a restart, against reading it."""
    heading("Time to first token after a restart, SmolLM2, a known prefix of 2,000 tokens")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for n in range(ROUNDS):
            system = f"You are sailor {n}. " + FILLER * 120
            with serving(home=home) as server:
                ask(server, "Warm up.", "Hello.")
                cold = ask(server, system, "Who are you?")
            with serving(home=home) as server:
                ask(server, "Warm up again.", "Hello.")
                warm = ask(server, system, "Where are you?")
            print(
                f"cold {cold.prefill_tokens:>6} new tokens {cold.ttft_s:7.2f} s,"
                f"  restored {warm.prefill_tokens:>5} {warm.ttft_s:6.2f} s"
                f" (of it {1000 * warm.cache_s:.0f} ms to read and check the state)",
                flush=True,
            )
            figure("restored_of_cold", warm.ttft_s / cold.ttft_s)


def repeats() -> None:
    """The same request again: a short answer to a prompt of 400 tokens."""
    heading("The identical request again, 400 tokens in, a short answer, whole")
    with serving() as server:
        folder = Path(get(f"{server.url}/v1/status")["model_path"])
        with peers(folder) as others:
            routes = {"mlxdeck": (server.url, "/v1/messages")}
            routes |= {name: (url, "/v1/chat/completions") for name, url in others.items()}
            print(f"{'':<20}{'first':>10}{'second':>10}{'third':>10}")
            for name, (url, path) in routes.items():
                fields = {"model": "default_model", "max_tokens": 64, "temperature": 0}
                question = FILLER * 22 + "\n\nWhat is the capital of France?"
                messages = [{"role": "user", "content": question}]
                body = json.dumps({**fields, "messages": messages}).encode()
                seconds = []
                connection = Connection(url)
                for _ in range(3):
                    began_s = time.perf_counter()
                    connection.post(path, body)
                    seconds.append(time.perf_counter() - began_s)
                connection.close()
                cells = "".join(f"{1000 * s:>7.0f} ms" for s in seconds)
                print(f"{name:<20}{cells}", flush=True)
            for name in PEERS:
                if name not in others:
                    print(f"{name:<20} is not on PATH")
