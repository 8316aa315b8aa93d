"""`/health` while eight clients get their answers."""

from __future__ import annotations

from tests.bench.figures import figure
from tests.bench.load import Sample, heading, message_tokens, tokens_per_s
from tests.bench.polling import polling
from tests.real import serving

N_CLIENTS = 8
N_ROUNDS = 2


def health_beside_generations() -> None:
    """Polled every 20 ms."""
    heading("/health every 20 ms beside 8 generations, SmolLM2")
    with serving() as server, polling(server) as since:
        tokens_per_s(message_tokens, server.url, 1, 1)
        since()
        for turn in range(N_ROUNDS):
            tokens_per_s(message_tokens, server.url, N_CLIENTS, 100 * turn + 10)
        worst_s, took_s = since()
        print(f"{len(took_s)} polls, longest gap {1000 * worst_s:.0f} ms")
        figure("health_p99", Sample(took_s).percentile_ms(99))
