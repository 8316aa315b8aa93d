"""`make bench`: what mlxdeck costs and saves, as ratios measured side by side in one run.

The machine may be shared and noisy, so figures of one run are only compared with each other: every
round asks all competitors in turn, and the median over the rounds is shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.tui.launch import ENVIRON
from tests.bench.caching import canonical_rules, repeats, restarts, second_turns
from tests.bench.competitors import Bare, peers
from tests.bench.hostile import hostile
from tests.bench.load import (
    Connection,
    Sample,
    chat_tokens,
    heading,
    latency,
    message_tokens,
    tokens_per_s,
)
from tests.bench.simulate import policies
from tests.real import get, serving

ROUNDS = 6
CLIENTS = (1, 4, 8)
REPEATS = 1000
CLAUDE_CODE_BYTES = 78_000


def claude_code_sized() -> bytes:
    """A streamed request of the size and shape of Claude Code's: tools make up most of it."""
    schema = {
        "type": "object",
        "properties": {
            f"option_{i}": {"type": "string", "description": "What it does. " * 4}
            for i in range(25)
        },
    }
    tools = [
        {"name": f"Tool{i}", "description": "Does things. " * 8, "input_schema": schema}
        for i in range(24)
    ]
    fields = {"model": "local", "max_tokens": 32_000, "stream": True, "tools": tools}
    content = [{"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}}]
    body = {**fields, "system": "Help. " * 500, "messages": [{"role": "user", "content": content}]}
    raw = json.dumps(body).encode()
    padding = CLAUDE_CODE_BYTES - len(raw)
    body["system"] = "Help. " * 500 + "x" * max(0, padding)
    return json.dumps(body).encode()


def exact_hits() -> None:
    """How long an answer takes that is known already."""
    heading("Exact repeat of a request of Claude Code's size (78 KB, 24 tools, streamed)")
    body = claude_code_sized()
    with serving("--engine", "echo") as server:
        warm = Connection(server.url)
        warm.post("/v1/messages", body)
        warm.close()
        sample = latency(server.url, body, REPEATS)
        print(f"{len(body)} bytes, {REPEATS} repeats on one connection")
        report(sample)
        print(f"hits a second, one connection   {REPEATS / sum(sample.seconds):8.0f}   (>= 1000)")
        ends = server.ended(REPEATS)
        served = Sample([end.duration_s for end in ends[1:]])
        print("server's own time, of its telemetry:")
        report(served)


def report(sample: Sample) -> None:
    """Two percentiles against their budgets."""
    print(f"p50                             {sample.percentile_ms(50):8.2f} ms (<= 3)")
    print(f"p99                             {sample.percentile_ms(99):8.2f} ms (<= 10)")


def held_to_grammars() -> None:
    """What constrained decoding costs."""
    load_fast_blas()
    from tests.bench.grammars import grammars

    with serving() as server:
        grammars(Path(get(f"{server.url}/v1/status")["model_path"]))


def long_stream() -> None:
    """The dashboard over many requests, in a process of its own for its memory's sake."""
    sys.stdout.flush()
    subprocess.run(
        [sys.executable, "-m", "tests.bench.dashboard"], env=os.environ | ENVIRON, check=True
    )


def live_stream() -> None:
    """The dashboard while events come."""
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "tests.bench.live"], env=os.environ | ENVIRON, check=True)


def throughput() -> None:
    """Tokens a second at 1, 4 and 8 clients, against the bare loop and mlx_lm.server."""
    heading("Total tokens/s, SmolLM2, 32 new tokens a request, prompts all different")
    with serving() as server:
        folder = Path(get(f"{server.url}/v1/status")["model_path"])
        bare = Bare(str(folder))
        with peers(folder) as others:
            competitors: dict[str, Callable[[int, int], float]] = {
                "bare mlx-lm loop": bare.tokens_per_s,
                "mlxdeck": partial(tokens_per_s, message_tokens, server.url),
            }
            for name, url in others.items():
                competitors[name] = partial(tokens_per_s, chat_tokens, url)
            for ask in competitors.values():
                ask(1, 1)
            print(f"{'clients':<20}" + "".join(f"{n:>10}" for n in CLIENTS))
            figures = {name: [0.0] * len(CLIENTS) for name in competitors}
            for column, n in enumerate(CLIENTS):
                rounds: dict[str, list[float]] = {name: [] for name in competitors}
                for turn in range(ROUNDS):
                    # Each round begins with another one: who comes after whom matters a little.
                    names = list(competitors)
                    for name in names[turn % len(names) :] + names[: turn % len(names)]:
                        ask = competitors[name]
                        rounds[name].append(ask(n, 100 * (turn + 1) + 10 * column))
                for name, values in rounds.items():
                    figures[name][column] = statistics.median(values)
            for name, row in figures.items():
                print(f"{name:<20}" + "".join(f"{value:>10.1f}" for value in row))
            budgets = {"bare mlx-lm loop": ">= 0.97", "mlx_lm.server": ">= 1"}
            for name, budget in {**budgets, "vllm-mlx": ">= 1.4"}.items():
                if name not in figures:
                    print(f"{name:<20} is not on PATH")
                    continue
                ratios = [a / b for a, b in zip(figures["mlxdeck"], figures[name], strict=True)]
                cells = "".join(f"{ratio:>10.2f}" for ratio in ratios)
                print(f"{'/ ' + name:<20}{cells}   ({budget})")
        bare.close()


def main() -> None:
    """Run everything, or the parts named on the command line."""
    parts = {
        "exact": exact_hits,
        "rules": canonical_rules,
        "turns": second_turns,
        "restart": restarts,
        "repeats": repeats,
        "policy": policies,
        "grammars": held_to_grammars,
        "hostile": hostile,
        "dashboard": long_stream,
        "live": live_stream,
        "throughput": throughput,
    }
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
