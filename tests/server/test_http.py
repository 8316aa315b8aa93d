"""HTTP as clients write it, well or badly: over raw sockets, on the echo engine."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import sys
import zlib
from importlib import import_module
from typing import Any

import pytest

from mlxdeck.server.errors import BadRequest, ServerError, TooLarge
from mlxdeck.server.log_format import EscapingFormatter
from mlxdeck.server.web.content_encoding import unpacked
from tests.server.http import Running, body, running

zstd: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
brotli: Any = import_module("brotli")
ASK = json.dumps(body("hello")).encode()
CHUNKED = "Transfer-Encoding: chunked"
CHAT = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()


def asked(line: str, *headers: str, host: str = "Host: localhost", content: bytes = b"") -> bytes:
    """A request, with the length of its body unless it says how it comes."""
    lines = [line if " HTTP/" in line else f"{line} HTTP/1.1", *([host] if host else ()), *headers]
    if content and not any("content-length" in each.lower() or "transfer" in each.lower()
                           for each in headers):  # fmt: skip
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


async def answered(server: Running, *requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of as many answers as there are requests, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.service.settings.port)
    found = []
    try:
        writer.write(b"".join(requests))
        for request in requests:
            async with asyncio.timeout(10):
                head = b"HTTP/1.1 100"
                while head.startswith(b"HTTP/1.1 100"):
                    head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                n_bytes = int(headers.get("content-length", 0))
                content = b""
                if headers.get("connection") == "close" and "content-length" not in headers:
                    content = await reader.read()
                elif not request.startswith(b"HEAD"):
                    content = await reader.readexactly(n_bytes)
            found.append((int(first.split()[1]), headers, content))
    finally:
        writer.close()
    return found


BAD: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"GARBAGE\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "a version to come": (asked("GET /health HTTP/9.9"), 400),
    "bare line feeds": (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), 400),
    "a header without a colon": (asked("GET /health", "nonsense"), 400),
    "a zero byte": (asked("GET /health", "x: a\0b"), 400),
    "a carriage return": (asked("GET /health", "x: a\rb"), 400),
    "a target without a path": (asked("GET http://localhost"), 400),
    "a target that is no URL": (asked("GET http://["), 400),
    "a target with other bytes": (asked("GET /\xe9"), 400),
    "a target with an escape": (asked("GET /\x1b[31m"), 400),
    "a method with other bytes": (asked("G\xe4T /health"), 400),
    "a head that is too long": (asked("GET /health", f"x: {'a' * 20_000}"), 431),
    "no host": (asked("GET /health", host=""), 400),
    "two hosts": (asked("GET /health", "Host: localhost"), 400),
    "a host that is none": (asked("GET /health", host="Host: [::1"), 400),
    "two origins": (asked("GET /health", "Origin: http://localhost", "Origin: http://a.b"), 400),
    "an origin that is none": (asked("GET /health", "Origin: http://["), 400),
    "an origin of other bytes": (asked("GET /health", "Origin: \xff"), 400),
    "a key of other bytes": (asked("GET /v1/models", "x-api-key: \xff"), 401),
    "a bad chunk": (asked("POST /v1/messages", CHUNKED, content=b"zz\r\n"), 400),
    "a bad length": (asked("POST /v1/messages", "Content-Length: five", content=b"."), 400),
    "a length below zero": (asked("POST /v1/messages", "Content-Length: -1", content=b"."), 400),
    "two lengths": (asked("POST /v1/messages", *["Content-Length: 1"] * 2, content=b"."), 400),
    "an expectation": (asked("POST /v1/messages", "Expect: tea", content=b"{}"), 417),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_broken_http_is_the_clients_fault(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 4xx in an API's shape, no traceback in the log, and the next client is served."""
    request, status = BAD[name]
    async with running(api_key="s3cret" if status == 401 else "") as server:
        ((found, _, content),) = await answered(server, request)
        assert (found, json.loads(content)["error"]["type"]) == (
            status,
            "authentication_error" if status == 401 else "invalid_request_error",
        )
        ((health, _, _),) = await answered(server, asked("GET /health"))
    assert health == 200
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


async def test_a_client_that_has_left_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    """Whether its request was good, bad or none; the next one is served."""
    async with running() as server:
        port = server.service.settings.port
        for request, _ in [*BAD.values(), (asked("POST /v1/messages", content=ASK), 200)]:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            writer.write_eof()
            writer.close()
        ((health, _, _),) = await answered(server, asked("GET /health"))
    assert health == 200
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


ROUTES: list[tuple[str, int, dict[str, str]]] = [
    ("GET /v1/messages", 405, {"allow": "options, post"}),
    ("POST /health", 405, {"allow": "get, head, options"}),
    ("PATCH /v1/cache", 405, {"allow": "delete, get, head, options"}),
    ("get /health", 405, {}),
    ("HEAD /health", 200, {"content-type": "application/json"}),
    ("HEAD /v1/models", 200, {}),
    ("HEAD /metrics", 200, {}),
    ("HEAD /", 200, {}),
    ("GET /", 200, {}),
    ("GET /health/?x=%ff&x=2", 200, {}),
    ("GET http://localhost/health", 200, {}),
    ("GET /health HTTP/1.0", 200, {"connection": "close"}),
    ("OPTIONS /v1/messages", 204, {"allow": "options, post"}),
    ("OPTIONS *", 204, {}),
    ("GET /v1/messages/batches", 404, {}),
    ("GET /v1/completions", 405, {"allow": "options, post"}),
    ("GET /v1/messages/count_tokens", 405, {"allow": "options, post"}),
    ("GET /v1/requests/x/cancel", 405, {"allow": "options, post"}),
    ("POST /v1/requests/x/cancel", 404, {}),
    ("POST /v1/models", 405, {"allow": "get, head, options"}),
    ("DELETE /v1/models/echo", 405, {"allow": "get, head, options"}),
    ("HEAD /v1/models/echo", 200, {}),
    ("HEAD /v1/models/a%2Fb", 404, {}),
    ("HEAD /v1/status", 200, {}),
    ("HEAD /v1/cache", 200, {}),
    ("HEAD /v1/messages", 405, {"allow": "options, post"}),
    ("HEAD /nothing", 404, {}),
    ("OPTIONS /v1/models/a/b", 204, {"allow": "get, head, options"}),
    ("OPTIONS /nothing", 404, {}),
    ("TRACE /health", 405, {"allow": "get, head, options"}),
    ("POST /v1/conversations", 404, {}),
    ("GET /v1/responses", 405, {"allow": "options, post"}),
    ("GET /v1/responses/resp_1", 404, {}),
    ("POST /v1/responses/resp_1", 405, {"allow": "delete, get, head, options"}),
    ("GET /favicon.ico", 404, {}),
]


async def test_methods_and_paths() -> None:
    """405 says what there is, HEAD goes wherever GET goes, one connection serves them all."""
    async with running() as server:
        kept = [row for row in ROUTES if "1.0" not in row[0]]
        told = await answered(server, *(asked(line) for line, _, _ in kept))
        told += await answered(server, asked("GET /health HTTP/1.0", host=""))
        for (line, status, headers), (found, got, _) in zip(
            [*kept, *(row for row in ROUTES if "1.0" in row[0])], told, strict=True
        ):
            assert (line, found) == (line, status)
            assert headers.items() <= got.items()


@pytest.mark.parametrize(
    ("path", "headers", "is_openai"),
    [
        ("/v1/messages/batches", (), False),
        ("/v1/complete", (), False),
        ("/v1/chat", (), True),
        ("/v1/completions/nothing", (), True),
        ("/v1/responses/resp_1/cancel", (), True),
        ("/v1/embeddings", (), True),
        ("/v1/files/nothing", (), True),
        ("/v1/files/nothing", ("anthropic-version: 2023-06-01",), False),
        ("/nothing", (), False),
    ],
)
async def test_an_unknown_path_is_answered_in_its_own_api(
    path: str, headers: tuple[str, ...], is_openai: bool
) -> None:
    """By the path, or by what only one API's clients send; the text says what there is."""
    async with running() as server:
        ((status, _, content),) = await answered(server, asked(f"POST {path}", *headers))
        error = json.loads(content)
        assert status == 404
        assert f"POST {path}" in error["error"]["message"]
        assert ("code" in error["error"], error.get("type")) == (
            (True, None) if is_openai else (False, "error")
        )


async def test_a_body_that_nobody_reads_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is asked for, and nothing is said of it; the connection goes on."""
    lines = (*("GET /health", "HEAD /health", "GET /v1/models", "GET /v1/models/echo", "GET /"),
             *("GET /v1/status", "GET /metrics", "GET /v1/cache", "DELETE /v1/cache", "GET /none"),
             *("GET /v1/responses/r", "DELETE /v1/responses/r", "POST /v1/requests/r/cancel"),
             *("OPTIONS /v1/messages", "POST /health"))  # fmt: skip
    async with running() as server:
        asks = [asked(line, content=b"hello") for line in lines]
        told = await answered(server, *asks, asked("GET /health"))
        assert told[-1][0] == 200
        assert server.service.bodies.in_flight_bytes == 0
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


async def test_a_page_that_is_let_in_may_read() -> None:
    """Answers, errors and streams name its origin; a preflight needs no key; others get neither."""
    page, key = "Origin: http://localhost:3000", "Authorization: Bearer k"
    preflight = (
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type",
        "Access-Control-Request-Private-Network: true",
    )
    streamed = json.dumps(body("hi", stream=True)).encode()
    async with running(api_key="k", allowed_hosts="Listed.Example") as server:
        told = await answered(
            server,
            asked("OPTIONS /v1/messages", page, *preflight),
            asked("GET /v1/models", page),
            asked("GET /v1/models", page, key),
            asked("OPTIONS /v1/messages", "Origin: https://evil.example", *preflight),
            asked("GET /v1/models", "Origin: https://listed.example", key),
            asked("POST /v1/messages HTTP/1.0", page, key, content=streamed),
        )
        assert [status for status, _, _ in told] == [204, 401, 200, 403, 200, 200]
        origins = [headers.get("access-control-allow-origin") for _, headers, _ in told]
        ours = "http://localhost:3000"
        assert origins == [ours, ours, ours, None, "https://listed.example", ours]
        asked_for = told[0][1]
        assert asked_for["access-control-allow-methods"] == "options, post"
        assert asked_for["access-control-allow-headers"] == "authorization,content-type"
        assert asked_for["access-control-allow-private-network"] == "true"
        assert all(
            ("access-control-allow-credentials" in headers) == (origin is not None)
            for (_, headers, _), origin in zip(told, origins, strict=True)
        )
        assert {headers["vary"] for _, headers, _ in told} == {"origin"}


async def test_an_old_client_reads_a_stream_to_its_end() -> None:
    """HTTP/1.0 has no chunks: the end of the connection is the end of the stream."""
    asks = json.dumps(body("hello", stream=True)).encode()
    async with running() as server:
        request = asked("POST /v1/messages HTTP/1.0", host="", content=asks)
        ((status, headers, content),) = await answered(server, request)
        assert (status, "transfer-encoding" in headers) == (200, False)
        assert content.startswith(b"event: message_start\n")
        assert content.endswith(b'data: {"type":"message_stop"}\n\n')


async def test_a_body_is_json_whatever_it_is_called() -> None:
    """curl calls it a form, others nothing at all; chunks may come instead of a length."""
    kinds = ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded")
    chunks = b"5;ext=1\r\n" + ASK[:5] + b"\r\n%x\r\n" % len(ASK[5:]) + ASK[5:] + b"\r\n0\r\n\r\n"
    async with running() as server:
        asks = [asked("POST /v1/messages", f"Content-Type: {kind}", content=ASK) for kind in kinds]
        asks += [asked("POST /v1/messages/?beta=true", content=ASK)]
        asks += [asked("POST /v1/messages", CHUNKED, content=chunks)]
        told = await answered(server, *asks)
        assert [status for status, _, _ in told] == [200] * 5


async def test_a_model_need_not_be_named_over_openais_api() -> None:
    """The answer says which one it was; Anthropic's API insists."""
    async with running() as server:
        told = await answered(server, asked("POST /v1/chat/completions", content=CHAT))
        assert (told[0][0], json.loads(told[0][2])["model"]) == (200, "echo")
        bare = json.dumps({**body("x"), "model": None}).encode()
        assert (await answered(server, asked("POST /v1/messages", content=bare)))[0][0] == 400


def deflated(content: bytes, bits: int = zlib.MAX_WBITS) -> bytes:
    """Compressed by zlib; bare with negative bits."""
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(content) + packer.flush()


PACKED: list[tuple[str, bytes, int]] = [
    ("gzip", gzip.compress(ASK), 200),
    ("x-gzip", gzip.compress(ASK[:9]) + gzip.compress(ASK[9:]) + bytes(5), 200),
    ("GZip , identity", gzip.compress(ASK), 200),
    ("deflate", deflated(ASK), 200),
    ("deflate", deflated(ASK, -zlib.MAX_WBITS), 200),
    ("deflate, gzip", gzip.compress(deflated(ASK)), 200),
    ("identity", ASK, 200),
    ("gzip", ASK, 400),
    ("gzip", gzip.compress(ASK)[:-9], 400),
    ("gzip", b"", 400),
    ("gzip, gzip, gzip", gzip.compress(ASK), 400),
    ("lzma", ASK, 415),
    ("gzip", gzip.compress(bytes(40 * 1024**2)), 413),
    ("zstd", zstd.compress(ASK), 200),
    ("zstd", zstd.compress(ASK[:9]) + zstd.compress(ASK[9:]), 200),
    ("zstd", ASK, 400),
    ("zstd", zstd.compress(ASK)[:-2], 400),
    ("zstd", zstd.compress(bytes(400 * 1024**2)), 413),
    ("br", brotli.compress(ASK), 200),
    ("gzip, br", brotli.compress(gzip.compress(ASK)), 200),
    ("br", ASK, 400),
    ("br", brotli.compress(ASK) + b"x", 400),
    ("br", brotli.compress(ASK)[:-2], 400),
    ("br", brotli.compress(bytes(40 * 1024**2), quality=1), 413),
]


async def test_compressed_bodies_are_unpacked() -> None:
    """As far as a body may be long; an unknown way is named, with those that are known."""
    async with running() as server:
        asks = [
            asked("POST /v1/messages", f"Content-Encoding: {how}", content=content)
            for how, content, _ in PACKED
        ]
        told = await answered(server, *asks)
        assert [status for status, _, _ in told] == [status for _, _, status in PACKED]
        (refused,) = [each for each in told if each[0] == 415]
        assert "'lzma'" in json.loads(refused[2])["error"]["message"]
        assert refused[1]["accept-encoding"] == "gzip, deflate, zstd, br"
        ends = await server.ended(len(PACKED) - 1)
        assert {end.status for end in ends} == {200, 400, 413, 415}


@pytest.mark.parametrize(
    ("content", "error"),
    [(gzip.compress(bytes(1001)), TooLarge), (gzip.compress(b"a") * 100, BadRequest)],
    ids=["bytes", "members"],  # What is packed tells the time.
)
def test_unpacking_is_bounded(content: bytes, error: type[ServerError]) -> None:
    """In bytes that come out, and in members that go in."""
    assert unpacked(gzip.compress(bytes(1000)), "gzip", 1000) == bytes(1000)
    with pytest.raises(error):
        unpacked(content, "gzip", 1000)


def test_log_lines_do_nothing_to_a_terminal() -> None:
    """Controls, marks of direction and line breaks are written out; a traceback keeps its lines."""
    try:
        raise ValueError("\x1b[2J\u202e")
    except ValueError as error:
        found = (type(error), error, error.__traceback__)
    said: list[Any] = ["\x1b]0;x\x07 \x9b \u2028 \r\n \udcff"]
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%s failed", tuple(said), found)
    line, *traceback = EscapingFormatter().format(record).split("\n")
    assert line.endswith(r"\x1b]0;x\x07 \x9b \u2028 \r\n \udcff failed")
    assert traceback[-1] == r"ValueError: \x1b[2J\u202e"
    assert not re.search(r"[^\n -~]", "\n".join([line, *traceback]))


async def test_what_was_unpacked_counts_until_it_is_let_go() -> None:
    """A small body that unpacks to more than there is room for is sent away; nothing is left."""
    large = gzip.compress(json.dumps(body("x" * 600_000)).encode())
    async with running(max_body_bytes_in_flight=500_000) as server:
        ask = asked("POST /v1/messages", "Content-Encoding: gzip", content=large)
        ((status, headers, _), (small, _, _)) = await answered(
            server, ask, asked("POST /v1/messages", content=ASK)
        )
        assert (status, int(headers["retry-after"]) > 0, small) == (529, True, 200)
        assert server.service.bodies.in_flight_bytes == 0
