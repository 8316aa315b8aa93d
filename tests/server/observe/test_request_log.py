"""A request's way in the log: its stages at debug, the model's own text at trace, secrets never."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from mlxdeck.server.chat import Finished, ToolCallEnd, ToolCallStart, Usage
from mlxdeck.server.log_format import STACK, TRACE, EscapingFormatter, JsonFormatter, set_up
from mlxdeck.server.observe.request_log import RequestLog
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.observe.totals import Totals
from mlxdeck.server.observe.trace import Trace
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.write.emitter import NullWriter
from tests.server.http import running

SECRET = "sk-ant-api03-" + "Ab3dE9fGh1JkL2mN4pQrS6tUv8wXyZ" * 2


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of requests, whatever is in it."""
    with caplog.at_level(TRACE, "mlxdeck"):
        yield caplog


def stages(log: pytest.LogCaptureFixture) -> list[str]:
    """The stages of all requests, in the order of their lines."""
    return [record.stage for record in log.records if record.name == "mlxdeck.request"]  # type: ignore[attr-defined]


COMPUTED = [
    *("received", "backend", "decoded", "exact cache", "prefix cache", "queued", "first token"),
    "end",
]


async def test_each_stage_has_a_line(log: pytest.LogCaptureFixture) -> None:
    """Computed, then known; nothing of the conversation is in it."""
    async with running(log_level="debug") as server:
        await server.ask("a private question")
        await server.ask("a private question")
        await server.ended(2)
    assert stages(log) == [*COMPUTED, "received", "backend", "decoded", "exact cache", "end"]
    assert "private" not in log.text
    assert {len(record.message.splitlines()) for record in log.records} == {1}


async def test_refusals_are_told_without_secrets(log: pytest.LogCaptureFixture) -> None:
    """The reason, but no key that is in its text."""
    async with running() as server:
        await server.http.post("/v1/messages", content=b"{}")
        await server.ended(1)
    assert stages(log) == ["received", "error", "end"]
    assert "invalid_request_error" in log.text
    RequestLog("req_1").emitted(t.Error(message=f"no such model: api_key={SECRET}"))
    assert "no such model" in log.text and SECRET not in log.text


async def test_names_that_clients_choose_are_masked_and_cut(log: pytest.LogCaptureFixture) -> None:
    """A key in the place of a model is none of the log's business, nor is a novel."""
    async with running() as server:
        await server.ask("hello", model=SECRET)
        await server.ask("hello", model="x" * 100_000)
        await server.ended(2)
    assert stages(log).count("decoded") == 2
    assert SECRET not in log.text and max(map(len, log.text.splitlines())) < 2_000


def test_a_bug_in_what_makes_an_event_fails_no_request(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has it made at once, where a request would meet it."""

    def broken(*_: object, **__: object) -> t.ToolCall:
        raise AttributeError

    monkeypatch.setattr("mlxdeck.server.observe.trace.call_event", broken)
    arrival = Arrival("req_1", "anthropic", 2)
    trace = Trace(NullWriter(), Totals(), "m", "off", arrival, RequestLog("req_1"))
    for event in (ToolCallStart("a", "f"), ToolCallEnd("json"), Finished("tool_use", Usage(1, 0))):
        trace.saw(event)
    assert "an event was dropped" in log.text


@pytest.mark.parametrize("level", ["debug", "trace"])
async def test_the_models_own_text_is_told_at_trace(
    log: pytest.LogCaptureFixture, level: str
) -> None:
    """All of it, a line each, also what is no text for the client."""
    said = "<tool_call>\nno JSON\x1b[31m</tool_call>"
    async with running(log_level=level) as server:
        await server.ask(said)
        await server.ended(1)
    wrote = [each for each in log.records if getattr(each, "stage", "") == "wrote"]
    told = "".join(each.message.partition("wrote: ")[2] for each in wrote)
    assert told == (said if level == "trace" else "")
    lines = [EscapingFormatter().format(each) for each in wrote]
    assert not any("\x1b" in line or "\n" in line for line in lines)


def record(message: str, **more: object) -> logging.LogRecord:
    """A line of the log."""
    made = logging.LogRecord("mlxdeck.x", logging.INFO, "x.py", 1, message, (), None)
    made.__dict__.update(more)
    return made


def test_json_lines_hold_one_object_each() -> None:
    """Whatever is in the message; the request's name is a field."""
    line = JsonFormatter().format(record("a\n\x1b[2J\u2028\ud800", request_id="req_1", stage="end"))
    assert line.isascii() and "\n" not in line and "\x1b" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"], told["request_id"]) == ("info", "mlxdeck.x", "req_1")
    assert told["message"] == "a\n\x1b[2J\u2028\ud800"
    try:
        raise ValueError("no")
    except ValueError as error:
        failed = record("failed", exc_info=(ValueError, error, error.__traceback__))
    assert "ValueError: no" in json.loads(JsonFormatter().format(failed))["exception"]


def test_where_another_thread_is_stands_below_its_line() -> None:
    """As a traceback does; in JSON it is a field."""
    stuck = record("it hangs", **{STACK: '  File "a\x1b", line 1\n    wait()\n'})
    line, *below = EscapingFormatter().format(stuck).split("\n")
    assert line.endswith(": it hangs")
    assert below == ['  File "a\\x1b", line 1', "    wait()"]
    told = json.loads(JsonFormatter().format(stuck))
    assert told["message"] == "it hangs" and "wait()" in told[STACK]
    assert EscapingFormatter().format(record("x", **{STACK: ""})).endswith(": x")


@pytest.mark.parametrize("level", ["trace", "debug", "info", "error"])
def test_only_our_own_modules_say_more_than_info(level: str) -> None:
    """HTTP libraries would show headers at debug, and so keys."""
    root, ours = logging.getLogger(), logging.getLogger("mlxdeck")
    before, handlers = (root.level, ours.level), root.handlers[:]
    try:
        root.handlers.clear()
        set_up(level, "text")
        assert root.level >= logging.INFO
        assert logging.getLevelName(ours.level).lower() == level
    finally:
        root.handlers[:] = handlers
        root.setLevel(before[0])
        ours.setLevel(before[1])
