"""Polls `/health` from a process of its own, so that the times are the server's alone."""

from __future__ import annotations

import http.client
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from tests.real import Server

POLL_S = 0.02


def _poll(port: int, orders: Connection) -> None:
    """Poll until told to stop; answer each order with all since the last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    took_s, worst_s, last_s = list[float](), 0.0, time.perf_counter()
    while True:
        began_s = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        now_s = time.perf_counter()
        took_s.append(now_s - began_s)
        worst_s, last_s = max(worst_s, now_s - last_s), now_s
        if orders.poll():
            if orders.recv() is None:
                return
            orders.send((worst_s, took_s))
            took_s, worst_s = [], 0.0
        time.sleep(POLL_S)


@contextmanager
def polling(server: Server) -> Iterator[Callable[[], tuple[float, list[float]]]]:
    """A function that tells the worst gap and each poll's time, in seconds, since its last call."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    port = urlsplit(server.url).port
    process = multiprocessing.get_context("spawn").Process(target=_poll, args=(port, theirs))
    process.start()

    def since() -> tuple[float, list[float]]:
        ours.send(True)
        worst_s, took_s = ours.recv()
        return float(worst_s), list(took_s)

    try:
        since()
        yield since
    finally:
        ours.send(None)
        process.join()
