"""Stops real servers at random moments of their lives, and looks at what they leave behind.

    python -m tests.random_stops 100 --seed 7
    python -m tests.random_stops 12 --engine mlx

A signal comes while the program is imported, while the model loads, under load or in the middle of
stopping, once or twice. Whatever the moment: the process ends in time and with the right status, it
says nothing it shouldn't, each request has one end in telemetry, and no process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.real import ROOT, free_port, models_home

PATHS = ("/v1/messages", "/v1/chat/completions")
NOISE = ("Traceback", "Exception ignored", " ERROR ", "InvalidState")
SLOW = "tests.server.slow_server"
START_S = {"echo": 0.7, "mlx": 4.0}
"""About how long a start takes, so that signals come in the middle of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to happen to a server."""

    engine: str
    under_load: bool
    from_start_s: float | None
    """When the signal comes, from the start; None is after the ready line."""
    from_ready_s: float
    number: signal.Signals
    again: signal.Signals | None
    again_s: float
    stop_timeout_s: float

    @staticmethod
    def drawn(rnd: random.Random, engine: str) -> Plan:
        """A random one."""
        start_s = START_S[engine]
        moment = rnd.choice(["import", "load", "load under load", "idle", *["under load"] * 3])
        early = moment in ("import", "load", "load under load")
        low = 0.02 if moment == "import" else start_s / 2
        return Plan(
            engine,
            "under" in moment,
            rnd.uniform(low, start_s if moment == "import" else 2 * start_s) if early else None,
            rnd.uniform(0, 2.5 if "under" in moment else 0.3),
            rnd.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]),
            rnd.choice([signal.SIGINT, signal.SIGTERM]) if rnd.random() < 0.3 else None,
            rnd.uniform(0.15, 1.2),
            rnd.choice([0.0, 0.3, 2.0]),
        )


@dataclass(slots=True)
class Load:
    """Clients that ask, read slowly, and leave, until they are told to stop."""

    port: int
    seed: int
    done: threading.Event = field(default_factory=threading.Event)
    answers: list[bytes] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, n_clients: int) -> None:
        """Let them begin."""
        for number in range(n_clients):
            rnd = random.Random(self.seed * 100 + number)
            self._threads.append(threading.Thread(target=self._ask, args=(rnd,), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Wait until all have had their last answer."""
        self.done.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self, rnd: random.Random) -> None:
        while not self.done.wait(0.02):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.settimeout(60)
                try:
                    sock.connect(("127.0.0.1", self.port))
                    self._converse(sock, rnd)
                except OSError:
                    # Nobody listens yet, or not any more.
                    continue

    def _converse(self, sock: socket.socket, rnd: random.Random) -> None:
        said = f"{rnd.getrandbits(64):x} " * rnd.randint(1, 60)
        asked = {"model": "m", "max_tokens": 2000, "stream": rnd.random() < 0.6}
        asked["messages"] = [{"role": "user", "content": said}]
        body = json.dumps(asked).encode()
        head = f"POST {rnd.choice(PATHS)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if rnd.random() < 0.3:
            self.done.wait(rnd.uniform(0, 8))
        if rnd.random() > 0.15:
            self.answers.append(b"".join(iter(lambda: sock.recv(65536), b"")))


@dataclass(slots=True)
class Stopped:
    """A server that has ended, and how."""

    plan: Plan
    status: int | None
    """None if it had to be killed."""
    took_s: float
    was_ready: bool
    output: str
    answers: list[bytes]
    home: Path
    left: list[str]
    """Processes of it that still run."""

    def problems(self) -> list[str]:
        """What should not be."""
        found = [f"it says {word!r}" for word in NOISE if word in self.output]
        if self.status not in self._statuses():
            found.append(f"status {self.status}, expected one of {sorted(self._statuses())}")
        limit_s = 4.0 if self.plan.again else self.plan.stop_timeout_s + 8
        if self.took_s > limit_s:
            found.append(f"it took {self.took_s:.1f} s")
        if any(b" 500 " in each[:40] or b"internal error" in each for each in self.answers):
            found.append("a client was told 500")
        return found + self._lines() + [f"process {each} is left" for each in self.left]

    def _statuses(self) -> set[int]:
        number, again = self.plan.number, self.plan.again
        found = {128 + again, -again} if again else set()
        if "ready on" in self.output:
            found |= {0}
        if not self.was_ready:
            # Before the program's first line, the system ends it.
            found |= {128 + number, -number}
        return found

    def _lines(self) -> list[str]:
        files = sorted(self.home.glob("telemetry/*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
        counts = [
            Counter(line["request_id"] for line in lines if line["event"] == event)
            for event in ("request.start", "request.end")
        ]
        found = []
        if counts[0] != counts[1] or any(n != 1 for n in counts[1].values()):
            found.append(f"{counts[0].total()} requests began and {counts[1].total()} ended")
        if lines and lines[-1]["event"] != "server.stop":
            found.append(f"telemetry ends in {lines[-1]['event']}")
        return found


def stopped(plan: Plan, seed: int, home: Path) -> Stopped:
    """Start a server, do to it what was planned, and wait for its end."""
    (home / "models").symlink_to(models_home())
    port, output = free_port(), home / "output"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MLXDECK_")}
    path = os.pathsep.join((str(ROOT / ".pkg"), str(ROOT)))
    environ |= {"MLXDECK_HOME": str(home), "PYTHONPATH": path}
    slow = plan.under_load and plan.from_start_s is None and plan.engine == "echo"
    program = [sys.executable, "-m", SLOW if slow else "mlxdeck.cli.main", "serve"]
    flags = ["--port", str(port), "--engine", plan.engine, "--no-loop-guard"]
    flags += ["--stop-timeout-s", str(plan.stop_timeout_s)]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*program, *flags], env=environ, cwd=home, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    load = Load(port, seed)

    def is_ready() -> bool:
        return b"ready on" in output.read_bytes()

    if plan.from_start_s is None:
        _until(lambda: is_ready() or process.poll() is not None, 120)
    if plan.under_load:
        load.start(1 + seed % 8)
    time.sleep(plan.from_ready_s if plan.from_start_s is None else plan.from_start_s)
    was_ready = is_ready()
    took_s = _send(process, plan)
    load.stop()
    said = output.read_bytes().decode(errors="replace")
    left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True)
    return Stopped(
        plan,
        process.poll() if took_s < 60 else None,
        took_s,
        was_ready,
        said,
        load.answers,
        home,
        left.stdout.split(),
    )


def _send(process: subprocess.Popen[bytes], plan: Plan) -> float:
    """Send what is to be sent; return how long the process ran after the last of it."""
    process.send_signal(plan.number)
    began_s = time.monotonic()
    if plan.again:
        try:
            process.wait(plan.again_s)
        except subprocess.TimeoutExpired:
            process.send_signal(plan.again)
            began_s = time.monotonic()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return time.monotonic() - began_s


def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.01)


def main() -> int:
    """Stop as many servers as asked for; 1 if there was a problem with any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n_servers", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=START_S, default="echo")
    told = parser.parse_args()
    n_bad = 0
    for number in range(told.n_servers):
        seed = told.seed * 10_000 + number
        plan = Plan.drawn(random.Random(seed), told.engine)
        with tempfile.TemporaryDirectory() as home:
            found = stopped(plan, seed, Path(home))
            problems = found.problems()
        print(f"{number}: status {found.status} after {found.took_s:.2f} s, {len(found.answers)}"
              f" answers; {'; '.join(problems) or 'ok'}", flush=True)  # fmt: skip
        if problems:
            n_bad += 1
            print(plan, found.output[-2000:], sep="\n")
    print(f"{told.n_servers - n_bad} of {told.n_servers} as they should be")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
