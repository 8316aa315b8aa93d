"""Each fault of an upstream, and what clients see of it: docs/upstream.md has the table.

MLXDECK_TEST_UPDATE=1 writes the table anew, to be read before it is committed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mlxdeck.server.backends.upstream.backend import UpstreamBackend
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from tests.server.backends.upstream.scripted import (
    HANG,
    HEAD,
    KEY,
    PING,
    Piece,
    chunks,
    event,
    in_front_of,
    message,
    response,
    scripted,
    text,
)
from tests.server.http import Running, body, until

PAGE = Path(__file__).parents[4] / "docs" / "upstream.md"
UPDATE = bool(os.environ.get("MLXDECK_TEST_UPDATE"))
HEADER = "| fault of the upstream | Anthropic client | OpenAI client |"
OK = message(text("Hello."))
AT_DELTA = OK.rindex(b"data: ", 0, OK.index(b"text_delta"))
BEGUN = OK[: OK.index(b"\n\n", AT_DELTA) + 2]
"""Up to the first text."""
REFUSED = "refused"


def error(kind: str, said: str, status: str, **headers: str) -> bytes:
    """An error as Anthropic's API writes it."""
    return response({"type": "error", "error": {"type": kind, "message": said}}, status, **headers)


FAULTS: dict[str, Sequence[Piece]] = {
    "refuses the connection": [REFUSED],
    "401": [error("authentication_error", f"invalid x-api-key: {KEY}", "401 Unauthorized")],
    "404": [error("not_found_error", "model: up", "404 Not Found")],
    "413": [error("request_too_large", "Request too large", "413 Too Large")],
    "429 with `retry-after`": [
        error(
            *("rate_limit_error", "Slow down", "429 Too Many Requests"),
            retry_after="7",
            anthropic_ratelimit_requests_remaining="0",
        )
    ],
    "500": [error("api_error", "Internal server error", "500 Internal Server Error")],
    "503, an HTML page": [response("<html>", "503 Service Unavailable", "text/html")],
    "529": [error("overloaded_error", "Overloaded", "529 Overloaded", retry_after="3")],
    "prompt too long": [
        error(
            *("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            "400 Bad Request",
        )
    ],
    "redirects": [response("", "307 Temporary Redirect", location="http://example.test/v1")],
    "sends an HTML page": [response("<html>", kind="text/html")],
    "sends a body that is no JSON": [response("{", kind="application/json")],
    "sends another JSON body": [response({"ok": True})],
    "is silent before its first byte": [HANG],
    "is silent after its first text": [BEGUN, HANG],
    "sends pings only": [HEAD + PING, HANG],
    "closes the connection at once": [],
    "closes it before the first event": [HEAD],
    "closes it after the first text": [BEGUN],
    "closes it in the middle of an event": [OK[: AT_DELTA + 40]],
    "closes it in the middle of a character": [HEAD + b'data: {"type": "ping", "x": "\xe2\x82'],
    "sends an event that is no JSON": [BEGUN + b"data: {nonsense\n\n"],
    "sends an event that is no object": [BEGUN + b"data: [1]\n\n"],
    "sends an error event": [
        BEGUN
        + event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    ],
    "sends a delta without a block": [
        OK[: OK.index(b"data: ", OK.index(b"\n\n", len(HEAD)))]
        + event({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta"}})
    ],
    "sends a block before the message": [HEAD + BEGUN[BEGUN.index(b"\n\n") + 2 :]],
    "leaves out fields": [BEGUN + event({"type": "content_block_delta", "index": 0})],
    "leaves out the stop reason": [BEGUN + event({"type": "content_block_stop", "index": 0})
        + event({"type": "message_stop"})],
    "sends an event that is too long": [BEGUN + b"data: " + b"x" * 70_000],
    "sends text without an end": [BEGUN, *[event({"type": "ping", "x": "y" * 20_000})] * 20],
}  # fmt: skip
LIMITS: dict[str, Any] = {"max_event_bytes": 50_000, "max_answer_bytes": 300_000}
SILENCE: dict[str, Any] = {"read_timeout_s": 0.15, "progress_timeout_s": 0.1}
"""For those that are silent alone: on a busy machine the others are, too."""


def seen(answer: httpx2.Response) -> str:
    """The one error of an answer, as the table writes it."""
    raw = answer.text
    if answer.headers["content-type"] == "application/json":
        (found,) = [answer.json()]
        where = str(answer.status_code)
    else:
        datas = re.findall(r"^data: (\{.*\"error\".*\})$", raw, re.MULTILINE)
        (found,) = [json.loads(data) for data in datas if json.loads(data).get("error")]
        assert raw.rstrip().removesuffix("data: [DONE]").rstrip().endswith(datas[-1])
        where = "in the stream"
    told = found["error"]
    kept = [
        f"`{name}: {value}`"
        for name, value in answer.headers.items()
        if name == "retry-after" or "ratelimit" in name
    ]
    said = re.sub(r"127\.0\.0\.1:\d+", "HOST", told["message"])
    return "; ".join([f"{where} `{told['type']}`: {said}", *kept])


async def sent(server: Running, path: str, *, stream: bool) -> httpx2.Response:
    return await server.http.post(path, json=body("q", stream=stream))


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_one_clear_error(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """In the client's API, streamed or not; telemetry has one end; nothing is cached or logged."""
    caplog.set_level(logging.WARNING)
    pieces = FAULTS[fault]
    async with scripted(lambda _: pieces) as up:
        url = f"http://127.0.0.1:{_closed_port()}" if REFUSED in pieces else up.url
        async with in_front_of(url, **LIMITS, **(SILENCE if HANG in pieces else {})) as server:
            cells = []
            for path in ("/v1/messages", "/v1/chat/completions"):
                streamed = seen(await sent(server, path, stream=True))
                whole = seen(await sent(server, path, stream=False))
                assert streamed.partition(" `")[2] == whole.partition(" `")[2]
                cells.append(whole if whole == streamed else f"{whole} (last event)")
            ends = await server.ended(4)
            assert [end.outcome for end in ends] == ["error"] * 4
            assert len(server.telemetry.named("error")) == 4
            assert len(server.service.caches.tiers.ram) == 0
            assert server.service.backend.status.load.active == 0
            shown = [*cells, *server.said, *map(str, server.telemetry.lines)]
            assert not any(KEY in each or KEY[3:15] in each for each in shown)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    _compare(fault, cells)


async def test_an_upstream_that_comes_back_is_used_again() -> None:
    """Health says what is wrong meanwhile; it is found by use and by asking."""
    answers: list[list[Piece]] = [[error("api_error", "x", "500 Internal Server Error")], [OK]]
    async with scripted(lambda _: answers.pop(0)) as up, in_front_of(up.url) as server:
        assert (await server.ask("q")).status_code == 500
        assert (await server.http.get("/health")).json()["status"] == "healthy"
        assert (await server.ask("q")).status_code == 200
    denied = error("authentication_error", "No.", "401 Unauthorized")
    async with scripted(lambda _: [denied]) as up, in_front_of(up.url, environ={}) as server:
        assert (await server.ask("q")).status_code == 401
        assert "UP_KEY is not set" in (await server.http.get("/health")).json()["reason"]
    async with in_front_of(f"http://127.0.0.1:{_closed_port()}") as server:
        health = await server.http.get("/health")
        assert health.status_code == 503
        assert "can't be reached" in health.json()["reason"]


async def test_what_the_start_tells_of_an_upstream_names_it_once() -> None:
    """Its address, or why it can't answer."""
    url = f"http://127.0.0.1:{_closed_port()}"
    backend = UpstreamBackend(UpstreamConfig(name="up", url=url, dialect="anthropic"))
    await backend.start(lambda _: None, None)
    try:
        assert backend.info.about.count("up at 127.0.0.1") == 1
        assert "can't be reached" in backend.info.about
    finally:
        await backend.close()


def _compare(fault: str, cells: list[str]) -> None:
    row = f"| {fault} | {' | '.join(cells)} |"
    lines = PAGE.read_text("utf-8").splitlines()
    if UPDATE:
        start = lines.index(HEADER)
        rows = {line.split(" | ")[0][2:]: line for line in lines[start + 2 :] if line[:2] == "| "}
        rows[fault] = row
        table = [rows[name] for name in FAULTS if name in rows]
        PAGE.write_text("\n".join([*lines[: start + 2], *table]) + "\n", "utf-8")
    assert row in PAGE.read_text("utf-8").splitlines()


def _same(pieces: Sequence[Piece], _: object) -> Sequence[Piece]:
    return pieces


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_finished_openai_stream_needs_no_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may leave the connection open behind its last chunk, or close it there."""
    monkeypatch.setattr("mlxdeck.server.backends.upstream.answer_stream.LAST_S", 0.05)
    told = chunks({"content": "Hi."}).removesuffix(b"data: [DONE]\n\n")
    cut = told.replace(HEAD, HEAD.replace(b"\r\n\r\n", b"\r\ncontent-length: 9999\r\n\r\n"))
    both: list[list[Piece]] = [[told, HANG], [told], [cut]]
    for pieces in both:
        async with (
            scripted(partial(_same, pieces)) as up,
            in_front_of(up.url, dialect="openai") as server,
        ):
            answer = await server.http.post("/v1/chat/completions", json=body("q"))
            assert answer.json()["choices"][0]["message"]["content"] == "Hi."


OPENAI_FAULTS: dict[str, tuple[Sequence[Piece], int, str]] = {
    "error event": (
        [HEAD + event({"error": {"message": "No.", "type": "server_error", "code": 503}})],
        *(503, "No."),
    ),
    "no finish reason": ([chunks({"content": "Hi."}, reason=None)], 502, "finish reason"),
    "no choices": ([HEAD + event({"x": 1})], 502, "without 'choices'"),
    "a call without a name": (
        [chunks({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})],
        *(502, "without a name"),
    ),
    "a plain text as error": (
        [response({"error": "Model not found"}, "404 Not Found")],
        *(404, "Model not found"),
    ),
    "another shape of error": (
        [response({"detail": "Bad things"}, "422 Unprocessable Entity")],
        *(422, "Bad things"),
    ),
    "a full window": (
        [
            response(
                {"error": {"message": "This model's maximum context length is 8 tokens. However, "
                           "you requested 9 tokens", "type": "invalid_request_error"}},
                "400 Bad Request",
            )
        ],
        *(400, "prompt is too long: 9 tokens > 8 maximum"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", OPENAI_FAULTS)
async def test_faults_of_openais_shape(fault: str) -> None:
    """They are read as well, and an Anthropic client sees its own API's error."""
    pieces, status, said = OPENAI_FAULTS[fault]
    async with scripted(lambda _: pieces) as up, in_front_of(up.url, dialect="openai") as server:
        answer = await server.ask("q")
        assert answer.status_code == status
        assert said in answer.json()["error"]["message"]


async def test_an_openai_client_keeps_the_fields_of_its_own_apis_error() -> None:
    """Type, code and parameter, as its SDK reads them."""
    told: dict[str, Any] = {"message": "No.", "type": "tokens", "code": "x", "param": "messages"}
    pieces = [response({"error": told}, "429 Too Many Requests", retry_after="2")]
    async with scripted(lambda _: pieces) as up, in_front_of(up.url, dialect="openai") as server:
        answer = await server.http.post("/v1/chat/completions", json=body("q"))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert answer.json()["error"] == told
        assert (await server.ask("q")).json()["error"]["type"] == "rate_limit_error"
        await until(lambda: len(server.telemetry.named("request.end")) == 2)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://[half", "another place"),
        ("/elsewhere", "another place"),
        ("http://me:password@host.test:99/v1", "host.test:99"),
    ],
)
async def test_a_redirect_names_its_host_alone(location: str, told: str) -> None:
    """Whatever the upstream writes there is one error, without a password of it."""
    pieces = [response("", "302 Found", location=location)]
    async with scripted(lambda _: pieces) as up, in_front_of(up.url) as server:
        answer = await server.ask("q")
        assert answer.status_code == 502
        assert f"redirects to {told}," in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "change",
    [lambda told: b"data:\n\n" + told, lambda told: told.replace(b"\n", b"\r")],
    ids=["an empty event", "carriage returns"],
)
async def test_any_form_of_a_stream_is_read(change: Any) -> None:
    """Events without data say nothing, and a line may end in a carriage return alone."""
    told = HEAD + change(OK.removeprefix(HEAD))
    async with scripted(lambda _: [told]) as up, in_front_of(up.url) as server:
        assert (await server.ask("q")).json()["content"][0]["text"] == "Hello."


async def test_a_head_has_to_end() -> None:
    """Also one that comes line by line, so that the upstream is never silent."""
    limits: dict[str, Any] = {
        "connect_timeout_s": 1.0,
        "read_timeout_s": 1.0,
        "progress_timeout_s": 0.1,
    }
    drip: list[Piece] = [0.02, b"x: y\r\n"]
    lines: list[Piece] = [HEAD.removesuffix(b"\r\n"), *drip * 500]
    async with scripted(lambda _: lines) as up, in_front_of(up.url, **limits) as server:
        answer = await server.ask("q")
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
        assert "makes no progress" in answer.json()["error"]["message"]
        await until(lambda: up.n_left == 1)
