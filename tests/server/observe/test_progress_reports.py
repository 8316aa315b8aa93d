"""Slow requests are reported from time to time, and fast ones never."""

from __future__ import annotations

import asyncio
import time

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.observe import progress_reports
from mlxdeck.server.observe.progress_reports import ProgressReports, progress_of
from mlxdeck.server.request_facts import Prepared, Work
from mlxdeck.telemetry.schema.events import RequestProgress
from tests.server.backends.upstream.scripted import Piece, in_front_of, message, scripted, text
from tests.server.http import Running, body, running, until


def reports(server: Running) -> list[RequestProgress]:
    """Those that were written."""
    lines = server.telemetry.named("request.progress")
    return [each.attrs for each in lines if isinstance(each.attrs, RequestProgress)]


async def test_a_fast_request_is_not_reported() -> None:
    """Neither a computed answer nor a known one."""
    async with running() as server:
        for _ in range(2):
            await server.ask("hello")
        await server.ended(2)
        assert not reports(server)


async def test_what_waits_is_read_and_is_written_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With position and reason, and with tokens that only grow; nothing behind the end."""
    monkeypatch.setattr(progress_reports, "FIRST_S", 0.0)
    monkeypatch.setattr(progress_reports, "LEAST_S", 0.01)
    engine = EchoEngine(step_s=0.01, prefill_chunk_tokens=64)
    async with running(engine, max_batch=1, prefill_chunk_tokens=64) as server:
        ask = server.http.post
        first = asyncio.create_task(ask("/v1/messages", json=body("a" * 1_000, max_tokens=9)))
        await until(lambda: any(each.state == "prefill" for each in reports(server)))
        await ask("/v1/messages", json=body("b" * 1_000, max_tokens=30))
        await first
        await server.ended(2)
        # While a prompt is made, there is nothing to count.
        told = [each for each in reports(server) if each.state != "prepare"]
        kinds = ("request.progress", "request.end")
        lines = [line for line in server.telemetry.lines if line.event in kinds]
    states = [each.state for each in told]
    assert {"wait", "prefill", "decode"} == set(states)
    for each in told:
        assert each.prompt_tokens is not None and each.read_tokens is not None
        assert each.prompt_tokens >= each.read_tokens >= (each.cached_tokens or 0)
    waiting = [each for each in told if each.state == "wait"]
    assert (waiting[-1].position, waiting[-1].waits_for) == (1, "a place in the batch")
    assert all(each.position is None for each in told if each.state != "wait")
    for name in {line.request_id for line in lines}:
        mine = [line.attrs for line in lines if line.request_id == name]
        *before, _ = mine
        assert all(isinstance(each, RequestProgress) for each in before)
        written = [each.output_tokens or 0 for each in before if isinstance(each, RequestProgress)]
        assert written == sorted(written)


class Timers:
    """A loop whose timers fire when the test says so; and the clock that it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.due: list[tuple[float, object]] = []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def call_later(self, after_s: float, call: object, *args: object) -> Timers:
        """Remember it."""
        self.due = [(self.now_s + after_s, lambda: call(*args))]  # type: ignore[operator]
        return self

    def cancel(self) -> None:
        """Forget it."""
        self.due = []

    def fire(self) -> None:
        """Go on to the next one."""
        ((self.now_s, call),) = self.due
        call()  # type: ignore[operator]


def test_no_more_than_four_a_second_and_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a minute in which tokens come all the time, and one in which none does."""
    timers, told = Timers(monkeypatch), list[tuple[float, RequestProgress]]()
    work = Work()
    work.times.submitted_s = timers.now_s
    following = ProgressReports(
        lambda: progress_of(Prepared(work, 10, 0), 0),
        lambda each: told.append((timers.now_s, each)),
    )
    following.follow(timers.now_s)
    while timers.now_s < 160:
        timers.fire()
        work.n_tokens += 1
    times = [now_s for now_s, _ in told]
    assert times[0] == 100.5
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert min(gaps) >= 0.25 and max(gaps) <= 1.1
    n_told = len(told)
    timers.fire()
    while timers.now_s < 220:
        timers.fire()
    assert len(told) == n_told + 1
    following.stop()
    assert not timers.due


SECRET = "ghp_0123456789abcdefghijABCDEFGHIJ"


@pytest.mark.parametrize("capture", ["tools", "full"])
async def test_the_text_is_told_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, capture: str
) -> None:
    """With `--capture full` alone; never a secret, nor a part of one; /v1/status has none of it."""
    monkeypatch.setattr(progress_reports, "FIRST_S", 0.0)
    monkeypatch.setattr(progress_reports, "LEAST_S", 0.003)
    said = f"The first line. The key is {SECRET} and here is the rest of it."
    engine = EchoEngine(lambda _: said, step_s=0.003)
    async with running(engine, capture=capture) as server:
        asking = asyncio.create_task(server.http.post("/v1/messages", json=body("hello")))
        await until(lambda: any(each.state == "decode" for each in reports(server)))
        status = (await server.http.get("/v1/status")).json()["requests"]
        await asking
        texts = [each.text for each in reports(server)]
        chars = [each.output_chars or 0 for each in reports(server)]
    assert "first" not in str(status) and status[0]["state"] == "decode"
    assert chars == sorted(chars) and chars[-1] > 30
    assert any(texts) == (capture == "full")
    if capture == "full":
        assert len(set(texts)) > 3 and "********" in texts[-1]
        whole = said.replace(SECRET, "********")
        assert all(whole.startswith(text) for text in texts)


async def test_what_another_server_answers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for that server, by name, then its answer grows in characters; tokens come last."""
    monkeypatch.setattr(progress_reports, "FIRST_S", 0.0)
    monkeypatch.setattr(progress_reports, "LEAST_S", 0.003)
    whole = message(text("Hello."), text("And more."))
    cut = whole.index(b"And more.") - 200
    script: list[Piece] = [0.1, whole[:cut], 0.1, whole[cut:]]
    async with scripted(lambda _: script) as up, in_front_of(up.url) as server:
        await server.ask("hello", stream=True)
        (end,) = await server.ended(1)
        told = reports(server)
    waiting, written = (
        next(each for each in told if each.state == state) for state in ("wait", "decode")
    )
    assert waiting.waits_for == f"the upstream {end.backend}" and not written.waits_for
    assert (waiting.output_chars, written.output_chars) == (0, 6)
    assert (written.prompt_tokens, written.read_tokens) == (10, 10)
    assert {each.output_tokens for each in told} == {None} and end.output_tokens == 7
