"""The end of a server: who runs may finish, who comes is sent away, and everyone's end is told."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlxdeck.server import service
from mlxdeck.server.answer_caches import AnswerCaches
from tests.real import Server, serving
from tests.server.http import body, running, until

SLOW = "tests.server.slow_server"
ANTHROPIC, OPENAI = "/v1/messages", "/v1/chat/completions"


def port_of(server: Server) -> int:
    """Where it listens."""
    return int(server.url.rsplit(":", 1)[1])


def asking(server: Server, path: str, prompt: str, **fields: Any) -> socket.socket:
    """A connection on which a request has been sent, with little room for what comes."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port_of(server)))
    sock.settimeout(30)
    content = json.dumps(body(prompt, **fields)).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    sock.sendall(head.encode() + content)
    return sock


def rest(sock: socket.socket) -> bytes:
    """All that is still to be read."""
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b""))


def until_running(server: Server, n_requests: int) -> None:
    """Wait until so many requests are recorded to have begun."""
    for _ in range(500):
        if sum(line.event == "request.start" for line in server.events()) >= n_requests:
            return
        time.sleep(0.02)
    raise AssertionError("they never began")


def ended(server: Server, status: int) -> list[Any]:
    """The ends of all requests: one each, before `server.stop`; nothing was printed but news."""
    assert server.process.wait(30) == status
    lines = server.events()
    starts = Counter(line.request_id for line in lines if line.event == "request.start")
    ends = [line for line in lines if line.event == "request.end"]
    assert Counter(line.request_id for line in ends) == starts
    assert set(starts.values()) == {1}
    assert [line.event for line in lines][-1] == "server.stop"
    said = "\n".join(server.output)
    assert "Traceback" not in said and " ERROR " not in said
    return [line.attrs for line in ends]


def test_requests_that_run_finish_and_later_ones_are_sent_away() -> None:
    """On connections that are open; the port is free at once for another server."""
    with serving(program=SLOW) as server:
        asked = asking(server, ANTHROPIC, "a" * 400, stream=True)
        until_running(server, 1)
        kept = [http.client.HTTPConnection("127.0.0.1", port_of(server)) for _ in range(3)]
        for connection in kept:
            connection.request("GET", "/health")
            connection.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port_of(server)))
            other.listen()
        for connection, path in zip(kept, (ANTHROPIC, OPENAI, "/health"), strict=True):
            connection.request("GET" if path == "/health" else "POST", path, b"{}")
            told = connection.getresponse()
            found = json.loads(told.read())
            assert told.status == 503
            if path == "/health":
                assert found["status"] == "stopping"
            else:
                assert int(told.headers["retry-after"]) > 0
                assert found["error"]["message"] == "the server is stopping"
                assert ("code" in found["error"]) == (path == OPENAI)
            connection.close()
        assert b"event: message_stop" in rest(asked)
        (end,) = ended(server, 0)
        assert end.outcome == "ok"


def test_when_the_time_is_over_everyone_is_told() -> None:
    """Streams by an event, others by a status, whoever lags too; each has one `request.end`."""
    with serving("--stop-timeout-s", "0.2", "--no-loop-guard", program=SLOW) as server:
        asked = [
            asking(server, path, f"{number}{path}" + "b" * 3000, stream=stream, max_tokens=3000)
            for number in range(4)
            for path, stream in ((ANTHROPIC, True), (OPENAI, True), (ANTHROPIC, False))
        ]
        until_running(server, len(asked))
        # By now those that stream have more to say than there is room for.
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with ThreadPoolExecutor(6) as readers:
            # The others never read a byte.
            streamed, chunks, plain, *_ = told = list(readers.map(rest, asked[:6]))
        for each in told[3:]:
            assert b"the server is stopping" in each
        assert (
            streamed.rstrip(b"\r\n0")
            .rstrip()
            .endswith(b'{"type":"overloaded_error","message":"the server is stopping"}}')
        )
        assert b"event: error\ndata: " in streamed
        assert b'data: {"error":{"message":"the server is stopping"' in chunks
        assert chunks.rstrip(b"\r\n0").rstrip().endswith(b"data: [DONE]")
        assert plain.startswith(b"HTTP/1.1 503")
        ends = ended(server, 0)
        assert [(end.outcome, end.status) for end in ends] == [("error", 503)] * len(asked)
        for sock in asked[6:]:
            sock.close()


def test_asked_twice_it_ends_at_once() -> None:
    """However long requests had; their ends are told all the same."""
    flags = ("--stop-timeout-s", "3600", "--no-loop-guard")
    with serving(*flags, program=SLOW) as server, ThreadPoolExecutor(1) as reader:
        asked = asking(server, ANTHROPIC, "a" * 3000, stream=True, max_tokens=4000)
        until_running(server, 1)
        reading = reader.submit(rest, asked)
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        (end,) = ended(server, 128 + signal.SIGINT)
        assert (end.outcome, end.status) == ("error", 503)
        assert b"the server is stopping" in reading.result()


async def test_what_goes_on_beside_requests_survives_a_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The tick that raises is not the last one; faults are logged once a row, and counted."""
    for name in ("TICK_S", "IDLE_TICK_S"):
        monkeypatch.setattr(service, name, 1 / 64)
    async with running() as server:

        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(AnswerCaches, "tick", fail)
            await until(lambda: server.service.upkeep.errors > 2)
        n_errors = server.service.upkeep.errors
        n_ticks = len(server.telemetry.named("tick"))
        await until(lambda: len(server.telemetry.named("tick")) > n_ticks)
        assert server.service.upkeep.errors == n_errors
        metrics = (await server.http.get("/metrics")).text
        assert f"mlxdeck_upkeep_errors_total {n_errors}.0\n" in metrics
    assert caplog.text.count("the caches' tick failed") == 1
