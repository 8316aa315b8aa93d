"""Tokens a second at 1, 4 and 8 clients, against the bare loop and other servers."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.competitors import PEERS, Bare, peers
from tests.bench.figures import LIMIT, absent, figure
from tests.bench.load import chat_tokens, heading, message_tokens, tokens_per_s
from tests.real import get, serving

ROUNDS = 4
CLIENTS = (1, 4, 8)
Ask = Callable[[int, int], float]
"""(clients, number of the first prompt) -> tokens a second."""


def throughput() -> None:
    """Every competitor in turn, so that a noisy machine is fair to all."""
    heading("Total tokens/s, SmolLM2, 32 new tokens a request, prompts all different")
    with serving() as server:
        folder = Path(get(f"{server.url}/v1/status")["model_path"])
        bare = Bare(str(folder))
        with peers(folder) as others:
            competitors: dict[str, Ask] = {
                "bare mlx-lm loop": bare.tokens_per_s,
                "mlxdeck": partial(tokens_per_s, message_tokens, server.url),
            }
            for name, url in others.items():
                competitors[name] = partial(tokens_per_s, chat_tokens, url)
            for ask in competitors.values():
                ask(1, 1)
            figures = {name: [0.0] * len(CLIENTS) for name in competitors}
            for column, n in enumerate(CLIENTS):
                for name, values in rounds(competitors, n, 10 * column).items():
                    figures[name][column] = statistics.median(values)
        bare.close()
    print(f"{'clients':<20}" + "".join(f"{n:>10}" for n in CLIENTS))
    for name, row in figures.items():
        print(f"{name:<20}" + "".join(f"{value:>10.1f}" for value in row))
    report(figures)


def rounds(competitors: dict[str, Ask], n_clients: int, offset: int) -> dict[str, list[float]]:
    """What each reached; every round begins with another one, as who follows whom matters."""
    found: dict[str, list[float]] = {name: [] for name in competitors}
    names = list(competitors)
    for turn in range(ROUNDS):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(competitors[name](n_clients, 100 * (turn + 1) + offset))
    return found


def report(figures: dict[str, list[float]]) -> None:
    """Ours and the peers' as ratios to the bare loop, which is the limit."""
    limits = figures["bare mlx-lm loop"]
    for column, n in enumerate(CLIENTS):
        name = f"tokens_{n}"
        figure(name, figures["mlxdeck"][column] / limits[column])
        figure(name, 1.0, LIMIT)
        for peer in PEERS:
            if peer in figures:
                figure(name, figures[peer][column] / limits[column], peer)
            else:
                absent(name, "not on PATH", peer)
    figure("tokens_peer_8", figures["mlxdeck"][-1] / figures["mlx_lm.server"][-1])
