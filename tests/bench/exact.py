"""An identical request of Claude Code's size again: from RAM, and from disk after a restart."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tests.bench.figures import figure
from tests.bench.load import Connection, Sample, heading, latency
from tests.real import serving

N_REPEATS = 1000
N_ON_DISK = 40
CLAUDE_CODE_BYTES = 78_000


def claude_code_sized(text: str = "Go on.") -> bytes:
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
    content = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    body = {**fields, "system": "Help. " * 500, "messages": [{"role": "user", "content": content}]}
    raw = json.dumps(body).encode()
    padding = CLAUDE_CODE_BYTES - len(raw)
    body["system"] = "Help. " * 500 + "x" * max(0, padding)
    return json.dumps(body).encode()


def exact_hits() -> None:
    """How long an answer takes that is known already."""
    heading("Exact repeat of a request of Claude Code's size (78 KB, 24 tools, streamed)")
    body = claude_code_sized()
    others = [claude_code_sized(f"Go on with {n}.") for n in range(N_ON_DISK)]
    with tempfile.TemporaryDirectory() as name:
        with serving("--engine", "echo", home=Path(name)) as server:
            ask(server.url, [body, *others])
            sample = latency(server.url, body, N_REPEATS)
            ends = server.ended(N_REPEATS)
            own = Sample([end.duration_s for end in ends[1 + N_ON_DISK :]])
        figure("exact_p50", sample.percentile_ms(50))
        figure("exact_p99", sample.percentile_ms(99))
        figure("exact_per_s", N_REPEATS / sum(sample.seconds))
        print(f"of that in the server, p50      {own.percentile_ms(50):8.2f} ms")
        print(f"of that in the server, p99      {own.percentile_ms(99):8.2f} ms")
        with serving("--engine", "echo", home=Path(name)) as server:
            ask(server.url, [body])
            stored = Sample(ask(server.url, others, is_known=True))
    figure("exact_disk", stored.percentile_ms(50))


def ask(url: str, bodies: list[bytes], is_known: bool = False) -> list[float]:
    """The seconds of each on one connection."""
    connection, seconds = Connection(url), []
    for body in bodies:
        began_s = time.perf_counter()
        _, headers = connection.post("/v1/messages", body)
        seconds.append(time.perf_counter() - began_s)
        if is_known and headers.get("x-mlxdeck-cache") != "hit":
            raise RuntimeError("an answer was not on disk")
    connection.close()
    return seconds
