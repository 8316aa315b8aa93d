"""Heads and bodies over real sockets: who is answered before, and what is held meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mlxdeck.server.web import incoming_bodies
from mlxdeck.server.web.connection import Exchange
from mlxdeck.server.web.incoming_bodies import DROP_S, FREE_BYTES
from tests.server.http import Running, body, running, until


async def exchange(server: Running, *pieces: bytes, more: bytes = b"") -> bytes:
    """Send raw pieces, then read the answer's head and body; `more` is only sent when asked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.service.settings.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        found = await reader.readuntil(b"\r\n\r\n")
        if more and found.startswith(b"HTTP/1.1 100"):
            writer.write(more)
            found = await reader.readuntil(b"\r\n\r\n")
        length = int(found.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return found + await reader.readexactly(length)
    finally:
        writer.close()


def head(length: int | str, *lines: str, path: str = "/v1/messages") -> bytes:
    """The head of a POST."""
    how = f"Content-Length: {length}" if isinstance(length, int) else f"Transfer-Encoding: {length}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", how, *lines, "", ""]).encode()


async def test_a_python_client_that_still_sends_reads_the_413() -> None:
    """The rest of its body is read and dropped, not reset."""
    async with running(max_body_bytes=2**20) as server:
        for path in ("/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens"):
            refused = await server.http.post(path, content=bytes(40 * 2**20))
            assert refused.status_code == 413
            assert "1,048,576" in refused.json()["error"]["message"]
        assert server.service.pipeline is not None
        assert (await server.ask("still here")).status_code == 200


async def test_chunks_are_counted_as_they_come() -> None:
    """A body that doesn't say its length has the same limit."""
    async with running(max_body_bytes=100_000) as server:

        async def chunks() -> Any:
            for _ in range(40):
                yield bytes(5000)

        refused = await server.http.post("/v1/messages", content=chunks())
        assert refused.status_code == 413
        small = json.dumps(body("in chunks")).encode()

        async def good() -> Any:
            yield small[:20]
            yield small[20:]

        assert (await server.http.post("/v1/messages", content=good())).status_code == 200


@pytest.mark.parametrize(
    ("lines", "path", "status"),
    [
        ((), "/v1/messages", 401),
        (("x-api-key: s3cret", "Origin: http://evil.example"), "/v1/messages", 403),
        (("x-api-key: s3cret",), "/v1/nothing", 404),
    ],
)
async def test_who_may_not_ask_is_told_before_a_body_comes(
    lines: tuple[str, ...], path: str, status: int
) -> None:
    """The answer is there though not a byte of the body was sent, and none is ever held."""
    async with running(api_key="s3cret") as server:
        expecting = (*lines, "Expect: 100-continue")
        answered = await exchange(server, head(31 * 2**20, *expecting, path=path))
        assert answered.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"connection: close" in answered.lower()


async def test_requests_sent_ahead_wait_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many bodies a client sends without waiting, the buffer keeps to its limit."""
    held: list[int] = []
    read = Exchange.read

    async def noted(stream: Exchange) -> bytes | None:
        part = await read(stream)
        held.append(len(stream.recv_buffer))
        return part

    monkeypatch.setattr(Exchange, "read", noted)
    async with running() as server:
        n_requests = 20_000
        reader, writer = await asyncio.open_connection("127.0.0.1", server.service.settings.port)
        writer.write((head(2) + b"{}") * n_requests)
        for _ in range(500):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0)
        writer.close()
    # One piece comes beyond it, before Sanic stops reading.
    assert max(held) < 2 * FREE_BYTES


async def test_bodies_in_flight_have_a_cap_that_lets_short_ones_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond it a long one is told when to come back; what was held goes back."""
    cap = 4 * FREE_BYTES
    async with running(max_body_bytes_in_flight=cap) as server:
        bodies = server.service.bodies
        half = bytes(cap - FREE_BYTES)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.service.settings.port)
        writer.write(head(cap) + half)
        await until(lambda: bodies.in_flight_bytes == len(half))
        second = await server.http.post("/v1/messages", content=bytes(2 * FREE_BYTES))
        assert second.status_code == 529
        assert second.json()["error"]["type"] == "overloaded_error"
        assert int(second.headers["retry-after"]) > 0
        assert (await server.ask("short")).status_code == 200
        writer.close()
        await until(lambda: bodies.in_flight_bytes == 0)
        assert (await server.http.post("/v1/messages", content=half)).status_code == 400
        await until(lambda: bodies.in_flight_bytes == 0)


async def test_a_head_and_a_body_that_drip_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then doesn't hold a connection."""
    monkeypatch.setattr(incoming_bodies, "HEAD_S", 0.2)
    monkeypatch.setattr(incoming_bodies, "GRACE_S", 0.2)
    async with running() as server:

        async def drip(first: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.service.settings.port
            )
            writer.write(first)
            answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
            while not answer.done():
                writer.write(b"a")
                await asyncio.sleep(0.02)
            writer.close()
            return await answer

        assert (await drip(b"POST /v1/messages HTTP/1.1\r\nx-")).startswith(b"HTTP/1.1 408")
        monkeypatch.setattr(incoming_bodies, "DROP_S", 0.1)
        assert (await drip(head(1000) + b"{")).startswith(b"HTTP/1.1 408")
        await until(lambda: server.service.bodies.in_flight_bytes == 0)


async def test_a_client_that_leaves_within_its_body_leaves_nothing() -> None:
    """Neither bytes that count nor a line in the log."""
    async with running() as server:
        for first in (head(10**6) + bytes(5000), head("chunked") + b"1000\r\n" + bytes(300)):
            _, writer = await asyncio.open_connection("127.0.0.1", server.service.settings.port)
            writer.write(first)
            await until(lambda: server.service.bodies.in_flight_bytes > 0)
            writer.transport.abort()
            await until(lambda: server.service.bodies.in_flight_bytes == 0)


@pytest.mark.parametrize("length", [10**10, 10**400])
async def test_a_length_beyond_all_bounds_is_refused_before_any_of_it_comes(length: int) -> None:
    """Also of a client that sends nothing until it has its answer."""
    async with running(max_body_bytes=2**20) as server, asyncio.timeout(DROP_S / 2):
        assert (await exchange(server, head(length))).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("line", ["X-A : a", "X A: a", " X-A: a", ": a", "X-\u00e9: a"])
async def test_a_header_without_a_valid_name_is_refused(line: str) -> None:
    """Proxies and servers could read it in two ways."""
    async with running() as server:
        answered = await exchange(server, head(2, line) + b"{}")
    assert answered.startswith(b"HTTP/1.1 400")


async def test_a_client_that_waits_for_100_is_asked_for_its_body() -> None:
    """curl does, for long bodies."""
    told = json.dumps(body("hello")).encode()
    async with running() as server:
        answered = await exchange(server, head(len(told), "Expect: 100-continue"), more=told)
        assert answered.startswith(b"HTTP/1.1 200")
