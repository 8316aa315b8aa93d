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
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import (
    Connection,
    Sample,
    chat_tokens,
    latency,
    message_tokens,
    tokens_per_s,
)
from tests.real import ROOT, free_port, get, serving

ROUNDS = 6
CLIENTS = (1, 4, 8)
REPEATS = 1000
CLAUDE_CODE_BYTES = 78_000


def heading(text: str) -> None:
    """Set off a part of the table."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


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


class Bare:
    """The bare batch loop, behind a pipe."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bare", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert self._process.stdout and self._process.stdin
        while "ready" not in self._process.stdout.readline():
            if self._process.poll() is not None:
                raise RuntimeError("the bare loop did not start")

    def tokens_per_s(self, n: int, first: int) -> float:
        """One batch of `n`."""
        assert self._process.stdout and self._process.stdin
        self._process.stdin.write(f"{first} {n}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def environment() -> dict[str, str]:
    """For a child that imports mlxdeck and the tests from this checkout."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / '.pkg'}{os.pathsep}{ROOT}"}


@contextmanager
def mlx_lm_server(folder: str) -> Iterator[str]:
    """mlx-lm's own server; yields its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare", "--serve", folder, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                get(f"{url}/health")
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def full_precision(folder: Path, target: Path) -> None:
    """Write the weights as mlxdeck holds them, for servers that would not convert them."""
    code = (
        "import sys; from pathlib import Path;"
        "from mlxdeck.server.engine.blas import load_fast_blas; load_fast_blas();"
        "from mlxdeck.server.engine.models import load_weights;"
        "from mlx_lm.utils import save_model, save_config;"
        "m, t, c = load_weights(Path(sys.argv[1])); out = Path(sys.argv[2]);"
        "save_model(out, m); c.pop('quantization', None); c.pop('quantization_config', None);"
        "save_config(c, out / 'config.json')"
    )
    command = [sys.executable, "-c", code, str(folder), str(target)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment())
    for file in folder.iterdir():
        told = file.suffix in {".json", ".jinja", ".txt"} and "index" not in file.name
        if told and file.name != "config.json":
            (target / file.name).write_bytes(file.read_bytes())


def throughput() -> None:
    """Tokens a second at 1, 4 and 8 clients, against the bare loop and mlx_lm.server."""
    heading("Total tokens/s, SmolLM2, 32 new tokens a request, prompts all different")
    with serving() as server, tempfile.TemporaryDirectory() as scratch:
        folder = Path(get(f"{server.url}/v1/status")["model_path"])
        full = Path(scratch)
        full_precision(folder, full)
        bare = Bare(str(folder))
        with mlx_lm_server(str(full)) as other:
            competitors: dict[str, Callable[[int, int], float]] = {
                "bare mlx-lm loop": bare.tokens_per_s,
                "mlxdeck": lambda n, first: tokens_per_s(message_tokens, server.url, n, first),
                "mlx_lm.server": lambda n, first: tokens_per_s(chat_tokens, other, n, first),
            }
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
            for name, budget in (("bare mlx-lm loop", ">= 0.97"), ("mlx_lm.server", ">= 1")):
                ratios = [a / b for a, b in zip(figures["mlxdeck"], figures[name], strict=True)]
                cells = "".join(f"{ratio:>10.2f}" for ratio in ratios)
                print(f"{'/ ' + name:<20}{cells}   ({budget})")
        bare.close()


def main() -> None:
    """Run everything, or the parts named on the command line."""
    parts = {"exact": exact_hits, "throughput": throughput}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
