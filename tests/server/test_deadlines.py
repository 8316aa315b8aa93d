"""A request that takes longer than it may ends in one clear error, wherever it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.errors import BadRequest, DeadlinePassed
from mlxdeck.server.web.marks import TIMEOUT_S, limit_s
from tests.server.http import body, events, running, until

MESSAGES, CHAT, RESPONSES = "/v1/messages", "/v1/chat/completions", "/v1/responses"
ENDLESS = "never the same " * 5_000
TEXT = DeadlinePassed(0.3).message


def slow() -> EchoEngine:
    """An answer that takes minutes."""
    return EchoEngine(lambda prompt: prompt + ENDLESS, step_s=0.005)


def sent(path: str, *, stream: bool = False) -> dict[str, Any]:
    """A request in an API's own words."""
    said = body("hello", max_tokens=50_000, stream=stream)
    if path == RESPONSES:
        return {"model": "local", "input": "hello", "stream": stream}
    return said


@pytest.mark.parametrize("path", [MESSAGES, CHAT, RESPONSES])
async def test_what_is_written_ends_in_an_error(path: str) -> None:
    """A 504 that clients don't send again, or one event behind what was streamed."""
    async with running(slow(), request_timeout_s=0.3) as server:
        whole = await server.http.post(path, json=sent(path))
        stream = await server.http.post(path, json=sent(path, stream=True))
        await until(lambda: not server.service.load.active)
        ends = await server.ended(2)
    assert (whole.status_code, whole.headers["x-should-retry"]) == (504, "false")
    assert TEXT in whole.json()["error"]["message"]
    assert stream.status_code == 200 and stream.text.count(TEXT) == 1
    assert TEXT in stream.text.removesuffix("data: [DONE]\n\n").rstrip().rsplit("\n\n", 1)[-1]
    told = [(each.outcome, each.status, each.error_type) for each in ends]
    assert told == [("error", 504, "timeout_error")] * 2
    assert all(each.output_tokens for each in ends)


async def test_what_waits_ends_in_the_same_error_and_nothing_else_does() -> None:
    """By the header, for a request without a place; the one that has it goes on."""
    async with running(slow(), max_batch=1) as server:
        first = asyncio.create_task(server.http.post(MESSAGES, json=sent(MESSAGES)))
        await until(lambda: server.service.load.active)
        late = await server.ask("x", headers={TIMEOUT_S: "0.3"})
        assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout_error")
        await until(lambda: not server.service.load.queued)
        assert server.service.load.active == 1 and not first.done()
        first.cancel()


async def test_a_count_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its prompt is."""
    async with running() as server:
        monkeypatch.setattr(server.service.pipeline, "count", lambda chat: asyncio.sleep(60))
        path, body = f"{MESSAGES}/count_tokens", sent(MESSAGES)
        late = await server.http.post(path, json=body, headers={TIMEOUT_S: "0.05"})
    assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout_error")


async def test_in_time_is_in_time() -> None:
    """Also of a stream; and a bad limit is the client's own."""
    async with running(request_timeout_s=60) as server:
        good = await server.ask("hello", stream=True, headers={TIMEOUT_S: "50"})
        assert events(good.text)[-1][0] == "message_stop"
        bad = await server.ask("hello", headers={TIMEOUT_S: "soon"})
    assert bad.status_code == 400 and TIMEOUT_S in bad.json()["error"]["message"]


def test_the_header_can_only_shorten_the_limit_of_the_settings() -> None:
    """And is a plain number; the error names its bounds."""
    assert limit_s({}, 0) == 0
    assert limit_s({}, 9) == 9
    assert limit_s({TIMEOUT_S: "2.5"}, 0) == 2.5
    assert limit_s({TIMEOUT_S: "2.5"}, 9) == 2.5
    assert limit_s({TIMEOUT_S: "20"}, 9) == 9
    assert limit_s({TIMEOUT_S: " 0.25000000000001 "}, 0) == pytest.approx(0.25)
    assert limit_s({TIMEOUT_S: "999999999"}, 0) == 999_999_999
    for text in ("0", "0.0", "-1", "nan", "inf", "1e3", "", "1,5", "1000000000", "9" * 500):
        with pytest.raises(BadRequest, match="above 0 and at most 999,999,999, such as 2.5, not"):
            limit_s({TIMEOUT_S: text}, 0)
