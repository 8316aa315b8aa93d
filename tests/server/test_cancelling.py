"""Requests have names in every answer, and running ones are cancelled by them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.errors import Cancelled, Stopping
from mlxdeck.server.lifecycle.running_request import RunningRequest
from mlxdeck.telemetry.schema.events import Error
from tests.server.http import Running, body, running, until
from tests.server.test_http import BAD, answered, asked

ANTHROPIC, OPENAI = "/v1/messages", "/v1/chat/completions"
STREAMS = {
    ANTHROPIC: (
        'event: error\ndata: {"type":"error","error":{"type":"request_cancelled",'
        '"message":"the request was cancelled"}}\n\n'
    ),
    OPENAI: (
        'data: {"error":{"message":"the request was cancelled","type":"request_cancelled",'
        '"param":null,"code":"request_cancelled"}}\n\ndata: [DONE]\n\n'
    ),
}


def endless() -> EchoEngine:
    """An answer that takes minutes."""
    return EchoEngine(lambda prompt: "never the same " + prompt * 1000, step_s=0.005)


async def shown(server: Running, n_requests: int, **headers: str) -> list[dict[str, Any]]:
    """What `/v1/status` says of that many requests that have begun to answer."""
    found: list[dict[str, Any]] = []
    for _ in range(1000):
        found = (await server.http.get("/v1/status", headers=headers)).json()["requests"]
        if len(found) == n_requests and {each["phase"] for each in found} <= {"generate"}:
            break
        await asyncio.sleep(0.01)
    assert len(found) == n_requests, found
    return found


async def cancel(server: Running, name: str, **headers: str) -> httpx2.Response:
    """Cancel by a name."""
    return await server.http.post(f"/v1/requests/{name}/cancel", headers=headers)


def ask(server: Running, path: str, *, stream: bool, **headers: str) -> asyncio.Task[Any]:
    """A request under way."""
    sent = body("hello", stream=stream, max_tokens=50_000)
    return asyncio.create_task(server.http.post(path, json=sent, headers=headers))


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_ends_with_one_error_of_its_api(path: str) -> None:
    """And its place is free at once; telemetry says that it was cancelled, and of no error."""
    async with running(endless(), loop_guard=False) as server:
        asking = ask(server, path, stream=True)
        (told,) = await shown(server, 1)
        assert (told["path"], told["model"], told["client_id"]) == (path, "local", None)
        done = await cancel(server, told["id"])
        assert (done.status_code, done.json()) == (200, {"cancelled": [told["id"]]})
        answer = await asking
        assert answer.headers["request-id"] == answer.headers["x-request-id"] == told["id"]
        assert answer.text.endswith(STREAMS[path])
        assert answer.text.count("the request was cancelled") == 1
        (end,) = await server.ended(1)
        assert (end.outcome, end.status, end.response_id) == ("cancelled", 499, told["id"])
        assert not any(isinstance(line.attrs, Error) for line in server.telemetry.lines)
        await until(lambda: not server.service.load.active)


@pytest.mark.parametrize("n_turns", range(4))
async def test_it_is_ended_once(n_turns: int) -> None:
    """By the first that asks for it, whoever comes next and however soon."""
    request = RunningRequest("req_1")

    async def wait() -> None:
        async with request.cut_short():
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    request.cut(Cancelled)
    for _ in range(n_turns):
        await asyncio.sleep(0)
    request.cut(Stopping)
    with pytest.raises(Cancelled):
        await waiting
    with pytest.raises(Cancelled):
        await wait()


async def test_an_answer_in_one_piece_is_a_499() -> None:
    """Cancelled by the client's own name of it, as it learns no other before the answer."""
    async with running(endless(), loop_guard=False) as server:
        asking = ask(server, ANTHROPIC, stream=False, **{"x-request-id": "mine-1"})
        (told,) = await shown(server, 1)
        assert told["client_id"] == "mine-1"
        assert (await cancel(server, "mine-1")).json() == {"cancelled": [told["id"]]}
        answer = await asking
        assert (answer.status_code, answer.json()["error"]["type"]) == (499, "request_cancelled")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["request-id"] == told["id"]
        for name, status in (("mine-1", 409), (told["id"], 409), ("other", 404), ("a%2Fb", 404)):
            again = await cancel(server, name, **{"anthropic-version": "2023-06-01"})
            assert (again.status_code, again.json()["type"]) == (status, "error")


async def test_only_the_named_one_leaves_a_shared_generation() -> None:
    """Three identical requests, one generation: the others go on, whoever began it."""
    async with running(endless(), loop_guard=False) as server:
        asking = [ask(server, ANTHROPIC, stream=True) for _ in range(3)]
        first, second, _ = await shown(server, 3)
        await until(lambda: server.service.load.active == 1)
        for name in (first["id"], second["id"]):
            await cancel(server, name)
            (done,), _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            asking.remove(done)
            assert done.result().headers["request-id"] == name
        assert server.service.load.active == 1
        (left,) = await shown(server, 1)
        await cancel(server, left["id"])
        await asking[0]
        await until(lambda: not server.service.load.active)


async def test_with_several_keys_each_sees_and_ends_its_own(tmp_path: Any) -> None:
    """Whatever the other calls its requests."""
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    keys.chmod(0o600)
    async with running(endless(), api_key_file=str(keys), loop_guard=False) as server:
        asking = ask(server, ANTHROPIC, stream=True, **{"x-api-key": "one", "x-request-id": "r"})
        (told,) = await shown(server, 1, authorization="Bearer one")
        assert await shown(server, 0, **{"x-api-key": "two"}) == []
        for name in (told["id"], "r"):
            assert (await cancel(server, name, **{"x-api-key": "two"})).status_code == 404
        assert (await cancel(server, "r")).status_code == 401
        assert (await cancel(server, "r", **{"x-api-key": "one"})).status_code == 200
        assert "request_cancelled" in (await asking).text
        assert (await cancel(server, "r", **{"x-api-key": "two"})).status_code == 404


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (("abc-1.2:3@x+y=z_",), True),
        (("a" * 128,), True),
        (("a" * 129,), False),
        ((".hidden",), False),
        (("a b",), False),
        (("a\x7f",), False),
        (("\xff",), False),
        (("one", "two"), False),
        (("",), False),
        ((), False),
    ],
)
async def test_a_clients_name_is_said_again_if_it_is_one(
    sent: tuple[str, ...], echoed: bool
) -> None:
    """Else the server's own stands there too."""
    async with running() as server:
        headers = [f"X-Request-Id: {each}" for each in sent]
        ((status, told, _),) = await answered(server, asked("GET /health", *headers))
    assert status == 200
    assert told["request-id"].startswith("req_")
    assert told["x-request-id"] == (sent[0].lower() if echoed else told["request-id"])


async def test_every_answer_has_a_name() -> None:
    """Whatever was asked, and however badly; no two have the same."""
    good = json.dumps(body("hi")).encode()
    rows = [
        asked("GET /"),
        asked("HEAD /v1/models"),
        asked("OPTIONS /v1/messages"),
        asked("GET /v1/messages"),
        asked("GET /nothing"),
        asked("POST /v1/messages", content=b"{"),
        asked("POST /v1/messages", content=good),
    ]
    async with running() as server:
        told = await answered(server, *rows)
        for request, status in BAD.values():
            if status != 401:
                told += await answered(server, request)
    names = [headers["request-id"] for _, headers, _ in told]
    assert [headers["x-request-id"] for _, headers, _ in told] == names
    assert len(set(names)) == len(names) == len(rows) + len(BAD) - 1
