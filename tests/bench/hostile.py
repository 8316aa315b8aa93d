"""What others notice of one client's hostile input: gaps of `/health`, and a short request's time.

Polled from a process of its own, so that what is measured is the server's and not this program's.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.bench.load import heading
from tests.hostile import BODIES
from tests.real import Server, get, serving

POLL_S = 0.02
MAX_GAP_MS = 100.0
MAX_RATIO = 2.0
ROUNDS_ALONE = 9
LEAST_S = 0.3
"""How long others are watched at least, also beside what is answered at once."""
PATIENCE_S = 90.0
TURN = {"role": "user", "content": "Say hi."}


def _poll(port: int, orders: Connection) -> None:
    """Poll `/health` until told to stop; answer every order with the worst gap since the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    worst_s, last_s = 0.0, time.perf_counter()
    while True:
        connection.request("GET", "/health")
        connection.getresponse().read()
        now_s = time.perf_counter()
        worst_s, last_s = max(worst_s, now_s - last_s), now_s
        if orders.poll():
            if orders.recv() is None:
                return
            orders.send(worst_s)
            worst_s = 0.0
        time.sleep(POLL_S)


@contextmanager
def polling(server: Server) -> Iterator[Callable[[], float]]:
    """A function that tells the worst gap in milliseconds since it was called last."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    port = urlsplit(server.url).port
    process = multiprocessing.get_context("spawn").Process(target=_poll, args=(port, theirs))
    process.start()

    def worst_ms() -> float:
        ours.send(True)
        return 1000 * float(ours.recv())

    try:
        worst_ms()
        yield worst_ms
    finally:
        ours.send(None)
        process.join()


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


def watch(server: Server, names: list[str]) -> None:
    """A line for each input."""
    with polling(server) as worst_ms:
        alone_ms = statistics.median(short(server) for _ in range(ROUNDS_ALONE))
        print(f"a short request alone: {alone_ms:.0f} ms; resident {resident_mb(server):.0f} MB")
        print(f"worst gap of /health beside it alone: {worst_ms():.0f} ms")
        ordinary = json.dumps({"model": "m", "max_tokens": 40, "messages": [TURN]}).encode()
        times = [each for _ in range(4) for each in beside(server, "/v1/messages", ordinary)[2]]
        print(f"beside an ordinary one of 40 tokens: {statistics.median(times) / alone_ms:.1f} x")
        head = ("status", "s", "gap ms", "short x", "worst x", "MB")
        print(f"{'':<38}" + "".join(f"{each:>8}" for each in head))
        over = 0
        for name in names:
            path, make = BODIES[name]
            body = make()
            worst_ms()
            status, took_s, times = beside(server, path, body)
            gap_ms, ratio = worst_ms(), statistics.median(times) / alone_ms
            is_over = gap_ms > MAX_GAP_MS or ratio > MAX_RATIO
            over += is_over
            figures = f"{status:>8}{took_s:>8.1f}{gap_ms:>8.0f}{ratio:>8.1f}"
            figures += f"{max(times) / alone_ms:>8.1f}{resident_mb(server):>8.0f}"
            print(f"{name[:38]:<38}{figures}{'  over' if is_over else ''}", flush=True)
        print(f"{over} of {len(names)} over {MAX_GAP_MS:.0f} ms or {MAX_RATIO:.0f} x")


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
