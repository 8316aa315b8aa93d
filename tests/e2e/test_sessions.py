"""`mlxdeck claude` and `mlxdeck run`: a server of their own or one that runs, and the summary."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.npm_clients import CLAUDE_CODE
from tests.real import ROOT, free_port, models_home, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SMALL = ["--bare", "-p", "Say yes.", "--tools", "", "--system-prompt", "You answer in one word."]


def environ(home: Path) -> dict[str, str]:
    """An environment with the client on its path, and a home of its own for both programs."""
    home.mkdir(exist_ok=True)
    if not (home / "models").exists():
        (home / "models").symlink_to(models_home())
    return {
        "PATH": f"{CLAUDE_CODE.executable().parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": f"{home}/.claude",
        "TERM": "dumb",
        "MLXDECK_HOME": str(home),
        "PYTHONPATH": os.pathsep.join((str(ROOT / ".pkg"), str(ROOT))),
    }


def command(name: str, port: int, *arguments: str) -> list[str]:
    """A command of mlxdeck."""
    flags = ["--port", str(port)]
    return [sys.executable, "-m", "mlxdeck.cli.main", name, *flags, "--", *arguments]


def run(home: Path, name: str, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(name, port, *arguments),
        env=environ(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ends(home: Path) -> list[dict[str, Any]]:
    """The attributes of every `request.end`, read as any JSON reader would."""
    files = sorted((home / "telemetry").glob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line["attrs"] for line in lines if line["event"] == "request.end"]


def nearest_rank(values: Sequence[float], rank: int) -> float:
    """A percentile as its definition says."""
    return sorted(values)[max(0, -(-rank * len(values) // 100) - 1)]


def shown(seconds: float) -> str:
    """A duration below a minute as the summary shows it."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def check_summary(printed: str, told: Sequence[dict[str, Any]]) -> None:
    """The summary is what these requests add up to."""
    read = sum(end["gen_ai.usage.input_tokens"] for end in told)
    written = sum(end["gen_ai.usage.output_tokens"] for end in told)
    n = f"{len(told)} request" + ("s" if len(told) > 1 else "")
    assert f": {n}, {read:,} tokens read, {written:,} written" in printed
    for name, attribute in (
        ("latency", "gen_ai.server.request.duration"),
        ("first token", "gen_ai.server.time_to_first_token"),
    ):
        values = [end[attribute] for end in told]
        ranks = ", ".join(f"P{rank} {shown(nearest_rank(values, rank))}" for rank in (50, 95, 99))
        assert f"{name} {ranks}\n" in printed
    cached = sum(
        end["gen_ai.usage.input_tokens"]
        if end["mlx.cache.result"] == "exact"
        else end.get("gen_ai.usage.cache_read.input_tokens", 0)
        for end in told
    )
    assert f"from cache {cached / read:.0%} of the tokens read" in printed


def test_without_a_server_it_starts_one_and_the_second_run_comes_from_the_cache(
    tmp_path: Path,
) -> None:
    """Standard output is the client's alone; the server is gone afterwards."""
    port = free_port()
    first = run(tmp_path, "claude", port, *SMALL)
    told = ends(tmp_path)
    check_summary(first.stderr, told)
    second = run(tmp_path, "claude", port, *SMALL)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.strip()
    assert second.stdout == first.stdout
    check_summary(second.stderr, ends(tmp_path)[len(told) :])
    assert re.search(r"  disk \d+ of \d+ requests?", second.stderr)
    with pytest.raises(ProcessLookupError):
        os.kill(server_pid(tmp_path), 0)


def server_pid(home: Path) -> int:
    """The process that recorded last."""
    newest = max((home / "telemetry").glob("*.jsonl"), key=lambda each: each.stat().st_mtime)
    return int(json.loads(newest.read_text().splitlines()[0])["pid"])


def test_a_server_that_runs_is_used_and_another_models_is_not(tmp_path: Path) -> None:
    """The first is left running."""
    with serving(home=tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        done = run(tmp_path, "claude", port, *SMALL)
        assert done.returncode == 0
        check_summary(done.stderr, ends(tmp_path))
        assert f"using the server that runs on {server.url}" in done.stderr
        other = subprocess.run(
            [*command("claude", port)[:-1], "--model", "org/other", "--", *SMALL],
            env=environ(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert other.returncode == 2
        assert "serves smollm2, not org/other" in other.stderr
        assert server.process.poll() is None


@contextmanager
def interrupted(home: Path, port: int, agent: str, when: str) -> Iterator[tuple[int, str]]:
    """Status and output of a session that gets Ctrl+C once a file or a line is there."""
    process = subprocess.Popen(
        command("run", port, "sh", "-c", agent),
        env=environ(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        printed: list[str] = []
        for line in process.stderr:
            printed.append(line)
            if when in line:
                break
        if when == "ready on":
            while not (home / "began").exists():
                time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        yield process.wait(60), "".join(printed) + rest


@pytest.mark.parametrize(
    ("when", "status"), [("loading", 130), ("ready on", 5)], ids=["loads", "runs"]
)
def test_ctrl_c_ends_the_session_and_its_server(when: str, status: int, tmp_path: Path) -> None:
    """While the model loads it ends the command; afterwards the agent decides."""
    agent = "trap 'kill $!; exit 5' INT; sleep 60 & touch began; wait"
    port = free_port()
    with interrupted(tmp_path, port, agent, when) as (ended, printed):
        assert ended == status
        assert "Traceback" not in printed
        if status == 5:
            assert "no requests recorded in this session" in printed
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
