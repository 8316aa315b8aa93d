"""What telemetry says of requests: what is known, and nothing of what isn't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.observe.sent_calls import MAX_NEW
from mlxdeck.telemetry.redact import MASK
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.write.records import Late
from tests.server.http import body, running

USE = {"type": "tool_use", "id": "toolu_1"}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}


async def test_what_was_not_known_of_an_error_is_not_told() -> None:
    """No time to a token that never came, no miss of a cache that nobody asked, no counts."""
    async with running() as server:
        refused = await server.http.post("/v1/messages", content=b"{}")
        assert refused.status_code == 400
        (end,) = await server.ended(1)
        (start,) = server.telemetry.named("request.start")
        assert isinstance(start.attrs, t.RequestStart)
        assert (start.attrs.n_messages, start.attrs.n_tools) == (None, None)
        assert (end.outcome, end.status, end.error_type) == ("error", 400, "invalid_request_error")
        unknown = (end.ttft_s, end.input_tokens, end.output_tokens, end.queue_s, end.cache_s)
        assert unknown == (None,) * 5
        assert (end.cache_result, end.miss_reason, end.n_tool_calls) == ("", "", 0)


async def test_each_way_to_an_answer_tells_what_it_knows() -> None:
    """Computed, and known as a whole; a cache that is off was not asked."""
    async with running() as server:
        await server.ask("hello")
        await server.ask("hello")
        computed, known = await server.ended(2)
    assert (computed.cache_result, computed.miss_reason) == ("miss", "cold")
    assert computed.input_tokens > 0 and computed.cached_tokens == 0
    assert computed.queue_s is not None and computed.prefill_s is not None
    assert computed.ttft_s is not None and computed.decode_s is not None
    assert (known.cache_result, known.cache_tier, known.miss_reason) == ("exact", "ram", "")
    assert known.input_tokens == computed.input_tokens and known.ttft_s is not None
    assert (known.queue_s, known.decode_s, known.tokenize_s) == (None, None, None)


async def test_the_backend_that_answered_is_told() -> None:
    """In telemetry and in a header, also of an answer that was known and of a refusal by it."""
    async with running(EchoEngine(context_tokens=200)) as server:
        answers = [
            await server.ask("hello"),
            await server.ask("hello"),
            await server.ask("x" * 999),
        ]
        ends = await server.ended(3)
        unread = await server.http.post("/v1/messages", content=b"{}")
    assert [each.headers["x-mlxdeck-backend"] for each in answers] == ["local"] * 3
    assert [each.status_code for each in answers] == [200, 200, 400]
    assert [end.backend for end in ends] == ["local"] * 3
    assert [(end.fell_back_from, end.fallback_reason) for end in ends] == [("", "")] * 3
    assert "x-mlxdeck-backend" not in unread.headers


async def test_who_asks_and_what_is_to_blame_is_told() -> None:
    """Agents by the client's headers; the part of the prompt that is not as it was."""
    headers = {"x-claude-code-agent-id": "a1", "x-claude-code-parent-agent-id": "main"}
    long = "word " * 400
    async with running() as server:
        await server.ask(f"{long} one", system="a")
        await server.ask(f"{long} two", system="a", headers=headers)
        ends = await server.ended(2)
        lines = server.telemetry.lines
    starts = [line.attrs for line in lines if isinstance(line.attrs, t.RequestStart)]
    assert [(s.agent_id, s.parent_agent_id) for s in starts] == [("", ""), ("a1", "main")]
    assert (ends[1].miss_reason, ends[1].diverged_block) == ("diverged", "messages.0")
    assert starts[1].operation == "chat" and ends[1].provider == "mlx"


async def test_an_odd_session_costs_no_event() -> None:
    """Half a character in its name is replaced, and the request is there from start to end."""
    body = (
        b'{"model":"local","max_tokens":9,"messages":[{"role":"user","content":"x"}],'
        b'"metadata":{"user_id":"{\\"session_id\\": \\"\\ud83d-x\\"}"}}'
    )
    async with running() as server:
        assert (await server.http.post("/v1/messages", content=body)).status_code == 200
        await server.ended(1)
        sessions = {line.session_id for line in server.telemetry.lines if line.request_id}
        assert len(sessions) == 1 and "\ufffd" in sessions.pop()


SECRET = "ghp_0123456789abcdefghijABCDEFGHIJ"
CALL = f'<tool_call>{{"name": "Run", "arguments": {{"command": "K={SECRET} x"}}}}</tool_call>'
TOOL = {"name": "Run", "input_schema": {"properties": {"command": {"type": "string"}}}}


@pytest.mark.parametrize("capture", ["off", "tools", "full"])
async def test_no_secret_reaches_telemetry(capture: str) -> None:
    """In arguments, contents and messages of errors, whatever is captured."""
    async with running(EchoEngine(lambda _: CALL), capture=capture) as server:
        await server.ask(f"use {SECRET}", tools=[TOOL], system=f"key {SECRET}")
        await server.ask("x", tools=[{"name": SECRET, "input_schema": {"type": SECRET}}])
        await server.ended(2)
        lines = server.telemetry.lines
        contents = [each.attrs.content for each in lines if isinstance(each.attrs, t.Content)]
        calls = [each.attrs.arguments for each in lines if isinstance(each.attrs, t.ToolCall)]
        messages = [each.attrs.message for each in lines if isinstance(each.attrs, t.Error)]
        assert SECRET not in str([*contents, *calls, *messages])
        assert bool(contents) == (capture == "full") == (MASK in str(contents))
        assert any(MASK in each for each in calls) == (capture != "off")


async def test_health_says_that_telemetry_fails() -> None:
    """It is degraded and not unhealthy: requests are answered."""
    async with running() as server:
        server.telemetry.failing = "No space left on device"
        server.telemetry.dropped_lines = 7
        found = await server.http.get("/health")
        assert found.status_code == 200 and found.json()["status"] == "degraded"
        assert "No space left" in found.json()["reason"]
        metrics = (await server.http.get("/metrics")).text
        assert "mlxdeck_telemetry_dropped_lines_total 7.0\n" in metrics
        assert "mlxdeck_telemetry_failing 1.0\n" in metrics


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([PARENT], PARENT),
        ([f"cc{PARENT[2:]}-of-a-later-version"], f"cc{PARENT[2:]}"),
        ([f"{PARENT}-more"], ""),
        ([PARENT.upper().replace("X", "x")], ""),
        ([f"ff{PARENT[2:]}"], ""),
        ([f"00-{'0' * 32}-00f067aa0ba902b7-01"], ""),
        ([f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01"], ""),
        ([PARENT, PARENT], ""),
        (["a span"], ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("is_read", [True, False])
async def test_a_clients_span_is_recorded(sent: list[str], told: str, is_read: bool) -> None:
    """As W3C's trace context has it, also of a request that is refused; nothing else is."""
    async with running() as server:
        content = json.dumps(body("hello")).encode() if is_read else b"{}"
        headers = [("content-type", "application/json"), *(("traceparent", each) for each in sent)]
        await server.http.post("/v1/messages", content=content, headers=headers)
        await server.ended(1)
        (start,) = server.telemetry.named("request.start")
    assert isinstance(start.attrs, t.RequestStart) and start.attrs.trace_parent == told


async def test_results_of_tools_are_told_once() -> None:
    """By the client's ids, with what failures say; a conversation repeats them ever after."""
    said = json.dumps({"name": "Run", "arguments": {"command": "ls"}})
    tool = {"name": "Run", "input_schema": {"type": "object"}}
    engine = EchoEngine(lambda _: f"<tool_call>{said}</tool_call>")
    async with running(engine) as server:
        asked = {"role": "user", "content": "x"}
        message = (await server.ask("x", tools=[tool])).json()
        (call,) = [each for each in message["content"] if each["type"] == "tool_use"]
        failed = f"no such file: K={SECRET}"
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": failed}
        came = {"role": "user", "content": [{**result, "is_error": True}]}
        turns = [asked, {"role": "assistant", "content": message["content"]}, came]
        for messages in (turns, turns, [*turns, {"role": "assistant", "content": "y"}, asked]):
            sent = body("", messages=messages, tools=[tool])
            assert (await server.http.post("/v1/messages", json=sent)).status_code == 200
        await server.ended(4)
        lines = server.telemetry.lines
    (told,) = [line.attrs for line in lines if isinstance(line.attrs, t.CallResult)]
    calls = [line.attrs.call_id for line in lines if isinstance(line.attrs, t.ToolCall)]
    assert (told.name, told.call_id, told.failed) == ("Run", calls[0], True)
    assert told.text.startswith("no such file") and MASK in told.text
    assert told.elapsed_s is not None and told.result_bytes == len(failed)
    starts = [line.attrs for line in lines if isinstance(line.attrs, t.RequestStart)]
    assert [start.n_failed_results for start in starts] == [None, 1, None, None]


async def test_what_an_event_holds_until_it_is_made_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a body, a call's arguments, a result's text and an answer; what is made holds nothing."""
    arguments = {"command": " ".join(map(str, range(1_500)))}
    said = json.dumps({"name": "Run", "arguments": arguments})
    tool = {"name": "Run", "input_schema": {"type": "object"}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{**USE, "name": "Run", "input": {}}]},
        {"role": "user", "content": [{**RESULT, "content": "y" * 3_000}]},
    ]
    engine = EchoEngine(lambda _: f"<tool_call>{said}</tool_call>", context_tokens=10**6)
    async with running(engine, capture="full") as server:
        emit, held = server.telemetry.emit, dict[str, int]()

        def noted(attrs: t.Attrs | Late, *about: Any) -> None:
            made = attrs() if callable(attrs) else attrs
            held[type(made).__name__] = about[-1] if about else 0
            emit(made, *about)

        monkeypatch.setattr(server.telemetry, "emit", noted)
        sent = body("", messages=turns, tools=[tool], max_tokens=20_000)
        assert (await server.http.post("/v1/messages", json=sent)).status_code == 200
        await server.ended(1)
    (start,) = server.telemetry.named("request.start")
    assert isinstance(start.attrs, t.RequestStart)
    assert held.pop("RequestStart") == start.attrs.body_bytes
    assert held.pop("CallResult") == 3_000
    assert held.pop("ToolCall") >= 5_000 and held.pop("Content") >= 5_000
    assert held and not any(held.values())


async def test_results_that_are_too_many_to_tell_are_counted() -> None:
    """However many blocks bring them; what is sent again is not counted again."""
    tool = {"name": "Run", "input_schema": {"type": "object"}}
    async with running(EchoEngine(lambda _: "y", context_tokens=10**6)) as server:
        for n in (MAX_NEW, 1200, 1200):
            ids = [f"{n}_{place}" for place in range(n)]
            calls = [{"type": "tool_use", "id": each, "name": "Run", "input": {}} for each in ids]
            results = [{"type": "tool_result", "tool_use_id": each} for each in ids]
            turns = [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": calls},
                {"role": "user", "content": results},
            ]
            sent = body("", messages=turns, tools=[tool])
            answer = await server.http.post("/v1/messages", json=sent)
            assert answer.status_code == 200, answer.text
        await server.ended(3)
        lines = server.telemetry.lines
    starts = [line.attrs for line in lines if isinstance(line.attrs, t.RequestStart)]
    assert [start.n_untold_results for start in starts] == [None, 1200 - MAX_NEW, None]
    told = [line.attrs for line in lines if isinstance(line.attrs, t.CallResult)]
    assert len(told) == 2 * MAX_NEW


LONG = {"messages": [{"role": "user", "content": "x" * 999}]}
REFUSED: list[tuple[str, dict[str, object]]] = [
    ("/v1/messages", {"messages": [{"role": "nobody", "content": "x"}]}),
    ("/v1/messages", {**LONG, "metadata": {"user_id": '{"session_id": "s1"}'}}),
    ("/v1/chat/completions", {"messages": "none", "prompt_cache_key": "s1"}),
    ("/v1/responses", {"input": 7, "prompt_cache_key": "s1"}),
]


@pytest.mark.parametrize(("path", "fields"), REFUSED)
async def test_a_refused_request_stays_in_its_session(path: str, fields: dict[str, object]) -> None:
    """By header or body, with its model and agent; refused by its API or for its length."""
    headers = {"x-claude-code-session-id": "s1"} if "_" not in "".join(fields) else {}
    headers |= {"x-claude-code-agent-id": "a1"}
    sent = {"model": "mine", "max_tokens": 9, **fields}
    async with running(EchoEngine(context_tokens=200), capture="full") as server:
        answer = await server.http.post(path, json=sent, headers=headers)
        (end,) = await server.ended(1)
        lines = server.telemetry.lines
    (start,) = (line.attrs for line in lines if isinstance(line.attrs, t.RequestStart))
    assert (answer.status_code, end.outcome) == (400, "error")
    assert (start.model, start.agent_id, start.conversation_id) == ("mine", "a1", "s1")
    assert {line.session_id for line in lines if line.request_id} == {"s1"}


@pytest.mark.parametrize("raw", [b"", b"[1]", b'"x"', b"{" * 9_000, b'{"model": 7}', b"\xff\xfe"])
async def test_a_body_that_tells_nothing_is_refused_as_before(raw: bytes) -> None:
    """A 400, with one start and one end in telemetry, and the session of the head."""
    async with running() as server:
        sent = await server.http.post(
            "/v1/messages", content=raw, headers={"x-claude-code-session-id": "s1"}
        )
        (end,) = await server.ended(1)
        (start,) = server.telemetry.named("request.start")
    assert (sent.status_code, end.status, start.session_id) == (400, 400, "s1")
