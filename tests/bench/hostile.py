"""What others notice of a client's hostile input: gaps of `/health`, and short requests' times."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.bench.polling import polling
from tests.hostile import BODIES
from tests.real import Server, get, serving

MAX_GAP_MS = 100.0
MAX_RATIO = 2.0
ROUNDS_ALONE = 9
LEAST_S = 0.3
"""How long others are watched at least, also beside what is answered at once."""
PATIENCE_S = 90.0
TURN = {"role": "user", "content": "Say hi."}


def post(server: Server, path: str, body: bytes, timeout_s: float = PATIENCE_S) -> int:
    """Send one request on a connection of its own; the status, or 0 if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout_s)
    headers = {"content-type": "application/json", "cache-control": "no-cache"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        connection.close()


def short(server: Server) -> float:
    """How long a short request takes, in milliseconds."""
    body = json.dumps({"model": "m", "max_tokens": 8, "messages": [TURN]}).encode()
    began_s = time.perf_counter()
    if post(server, "/v1/messages", body) != 200:
        return float("inf")
    return 1000 * (time.perf_counter() - began_s)


def beside(server: Server, path: str, body: bytes) -> tuple[int, float, list[float]]:
    """The status of a hostile request, its seconds, and the times of short ones meanwhile."""
    found: list[int] = []
    sender = threading.Thread(target=lambda: found.append(post(server, path, body)))
    began_s = time.perf_counter()
    sender.start()
    times, took_s = [], 0.0
    while sender.is_alive() or time.perf_counter() - began_s < LEAST_S:
        times.append(short(server))
        took_s = took_s or (0.0 if sender.is_alive() else time.perf_counter() - began_s)
    sender.join()
    return found[0], took_s, times


def resident_mb(server: Server) -> float:
    """Memory of the server."""
    return float(get(f"{server.url}/v1/status")["memory"]["process_bytes"]) / 1e6


def long_prompt(n: int) -> bytes:
    """An ordinary prompt of about as many tokens as the schemas of these tools have."""
    turn = {"role": "user", "content": f"{n}: " + "Say what a harbour is. " * 240}
    return json.dumps({"model": "m", "max_tokens": 4, "messages": [turn]}).encode()


def watch(server: Server, names: list[str]) -> None:
    """A line for each input."""
    with polling(server) as since:
        alone_ms = statistics.median(short(server) for _ in range(ROUNDS_ALONE))
        print(f"a short request alone: {alone_ms:.0f} ms; resident {resident_mb(server):.0f} MB")
        print(f"worst gap of /health beside it alone: {1000 * since()[0]:.0f} ms")
        ordinary = json.dumps({"model": "m", "max_tokens": 40, "messages": [TURN]}).encode()
        times = [each for _ in range(4) for each in beside(server, "/v1/messages", ordinary)[2]]
        print(f"beside an ordinary one of 40 tokens: {statistics.median(times) / alone_ms:.1f} x")
        reading = [beside(server, "/v1/messages", long_prompt(n))[2] for n in range(4)]
        times = [each for round_ in reading for each in round_]
        print(f"beside an ordinary prompt as long: {statistics.median(times) / alone_ms:.1f} x")
        head = ("status", "s", "gap ms", "short x", "worst x", "MB")
        print(f"{'':<38}" + "".join(f"{each:>8}" for each in head))
        over, longest_ms = 0, 0.0
        for name in names:
            path, make = BODIES[name]
            body = make()
            since()
            status, took_s, times = beside(server, path, body)
            gap_ms, ratio = 1000 * since()[0], statistics.median(times) / alone_ms
            is_over = gap_ms > MAX_GAP_MS or ratio > MAX_RATIO
            over += is_over
            longest_ms = max(longest_ms, gap_ms)
            figures = f"{status:>8}{took_s:>8.1f}{gap_ms:>8.0f}{ratio:>8.1f}"
            figures += f"{max(times) / alone_ms:>8.1f}{resident_mb(server):>8.0f}"
            print(f"{name[:38]:<38}{figures}{'  over' if is_over else ''}", flush=True)
        print(f"{over} of {len(names)} over {MAX_GAP_MS:.0f} ms or {MAX_RATIO:.0f} x")
        figure("hostile_gap", longest_ms)


def hostile(*only: str) -> None:
    """What others notice of inputs that cost far more than they look like."""
    load_fast_blas()
    names = [name for name in BODIES if not only or any(each in name for each in only)]
    for engine, flags in (("SmolLM2", ()), ("echo", ("--engine", "echo"))):
        heading(f"Beside one client's hostile input: {engine} (gap <= 100 ms, short <= 2 x)")
        with serving(*flags) as server:
            watch(server, names)


if __name__ == "__main__":
    hostile(*sys.argv[1:])
