"""Another backend takes over: when, what the client gets, what is cached, what telemetry says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.base import Health
from mlxdeck.server.backends.member import Member
from mlxdeck.server.backends.routed import RoutedBackend
from mlxdeck.server.backends.routing import RoutingTable, Target
from mlxdeck.server.cache.answers.memory import MemoryAnswers
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.chat import ChatRequest, Event, Finished, Ping, Started, TextDelta, Usage
from mlxdeck.server.checkpoints import Lanes, Workers
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import (
    BadRequest,
    EngineFailed,
    Overloaded,
    PromptTooLong,
    ServerError,
    UnreadablePart,
    UpstreamFailed,
    UpstreamRefused,
)
from mlxdeck.server.observe.observer import Observer
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.observe.trace import Trace
from mlxdeck.server.pipeline import Pipeline
from mlxdeck.server.request_facts import FALLBACK_REASONS
from mlxdeck.telemetry.write.writer import MemoryWriter
from tests.server.backends.scripted import ScriptedBackend, said
from tests.server.http import Running, events, running, until

USUAL = frozenset({"window", "down", "loading"})


def two(
    first: ScriptedBackend,
    second: ScriptedBackend,
    on: Sequence[str] = tuple(USUAL),
    wait_s: float = 0.05,
) -> RoutedBackend:
    """The second one takes over from the first."""
    to = Target(second.name)
    return RoutedBackend(
        [Member(first.name, first), Member(second.name, second)],
        RoutingTable([first.name, second.name], Target(first.name), fallback=to),
        gives_way_on=frozenset(on),  # type: ignore[arg-type]
        fallback_wait_s=wait_s,
        warmed=first.name,
    )


def text_of(answer: httpx2.Response) -> str:
    """The text of an answer in one piece."""
    return str(answer.json()["content"][0]["text"])


FAULTS = [
    (PromptTooLong(9, 5), "window"),
    (UnreadablePart("messages.0", "this model reads text only"), "unreadable"),
    (UpstreamRefused("prompt is too long: 9 tokens > 5 maximum", 400, "x"), "window"),
    (EngineFailed("the engine has failed"), "down"),
    (UpstreamFailed("it can't be reached"), "down"),
    (UpstreamRefused("no", 500, "api_error"), "error"),
    (UpstreamRefused("no", 529, "overloaded_error"), "busy"),
    (UpstreamRefused("no", 429, "rate_limit_error"), "busy"),
    (Overloaded("the queue is full"), "busy"),
]


PLACES = ("at once", "behind the start", "behind a ping")


@pytest.mark.parametrize(
    ("fault", "reason", "place", "stream"),
    [
        (*FAULTS[0], "check", False),
        (*FAULTS[2], "behind the start", True),
        (*FAULTS[4], "behind a ping", False),
        *((*each, "at once", n % 2 == 0) for n, each in enumerate(FAULTS)),
    ],
)
async def test_another_backend_takes_over(
    fault: ServerError, reason: str, place: str, stream: bool
) -> None:
    """Whatever is named: the client gets one whole answer, and telemetry and a header say whose."""
    first, second = ScriptedBackend("a"), ScriptedBackend("b")
    if place == "check":
        first.refuses = fault
    else:
        begun: list[Any] = [Started(Usage(3)), Ping()][: PLACES.index(place)]
        first.script = lambda _: [*begun, fault]
    async with running(backend=two(first, second, FALLBACK_REASONS)) as server:
        answer = await server.ask("hello", stream=stream)
        (end,) = await server.ended(1)
        totals = server.service.observer.totals
        n_starts = len(server.telemetry.named("request.start"))
        n_errors = len(server.telemetry.named("error"))
    assert answer.status_code == 200
    assert answer.headers["x-mlxdeck-backend"] == "b"
    assert (end.backend, end.fell_back_from, end.fallback_reason) == ("b", "a", reason)
    assert (end.outcome, end.status, end.model) == ("ok", 200, "b-model")
    assert (totals.requests, totals.errors.total(), n_starts, n_errors) == (1, 0, 1, 0)
    if stream:
        names = [name for name, _ in events(answer.text)]
        assert names.count("message_start") == names.count("message_stop") == 1
    else:
        assert text_of(answer) == "b as local"


@pytest.mark.parametrize(("fault", "reason"), [*FAULTS, (BadRequest("x", "no"), "")])
async def test_a_backend_gives_way_only_where_that_was_wanted(
    fault: ServerError, reason: str
) -> None:
    """The client gets the first one's error, and nobody else is asked."""
    first, second = ScriptedBackend("a", lambda _: [fault]), ScriptedBackend("b")
    others = [each for each in FALLBACK_REASONS if each != reason]
    async with running(backend=two(first, second, others)) as server:
        answer = await server.ask("hello")
        (end,) = await server.ended(1)
    assert answer.status_code == fault.status and not second.asked
    assert answer.headers["x-mlxdeck-backend"] == "a"
    assert (end.backend, end.fell_back_from, end.fallback_reason) == ("a", "", "")


async def test_nothing_takes_over_once_something_was_sent() -> None:
    """A stream that breaks ends in its own error."""
    fault = EngineFailed("the engine has failed")
    usage = Started(Usage(3))
    first = ScriptedBackend("a", lambda _: [usage, TextDelta("half an"), fault])
    second = ScriptedBackend("b")
    async with running(backend=two(first, second)) as server:
        told = events((await server.ask("hello", stream=True)).text)
        (end,) = await server.ended(1)
    assert [name for name, _ in told][-1] == "error" and not second.asked
    assert (end.outcome, end.backend, end.fell_back_from) == ("error", "a", "")


async def test_a_fallback_that_fails_too_ends_it() -> None:
    """With its own error, once; it never gives way itself."""
    first = ScriptedBackend("a", lambda _: [PromptTooLong(9, 5)])
    second = ScriptedBackend("b", lambda _: [PromptTooLong(9, 7)])
    async with running(backend=two(first, second)) as server:
        answer = await server.ask("hello")
        (end,) = await server.ended(1)
        n_errors = server.service.observer.totals.errors.total()
    assert "9 tokens > 7 maximum" in answer.text
    assert (len(first.asked), len(second.asked), n_errors) == (1, 1, 1)
    assert (end.outcome, end.backend, end.fell_back_from) == ("error", "b", "a")


@pytest.mark.parametrize("asked", ["a", "a/x", "b/y"])
async def test_who_names_a_backend_gets_that_one(asked: str) -> None:
    """What was to stay here goes nowhere else."""
    fault = EngineFailed("the engine has failed")
    first, second = (ScriptedBackend(name, lambda _: [fault]) for name in "ab")
    async with running(backend=two(first, second)) as server:
        answer = await server.ask("hello", model=asked)
    assert answer.status_code == 500 and answer.headers["x-mlxdeck-backend"] == asked[0]
    assert len(first.asked) + len(second.asked) == 1


async def test_each_backend_has_answers_of_its_own() -> None:
    """What took over is known as its own answer, and the first one is asked again."""
    first = ScriptedBackend("a", lambda _: [EngineFailed("the engine has failed")])
    second = ScriptedBackend("b")
    async with running(backend=two(first, second)) as server:
        once = await server.ask("hello")
        first.script = lambda _: said("well again")
        well = await server.ask("hello")
        directly = await server.ask("hello", model="b")
        both = [await server.ask("hello", model=model) for model in ("local", "a", "b", "b/x")]
        ends = await server.ended(7)
    assert [text_of(each) for each in (once, well)] == ["b as local", "well again"]
    assert directly.headers["x-mlxdeck-cache"] == "hit" and text_of(directly) == "b as local"
    assert [each.headers["x-mlxdeck-cache"] for each in both] == ["hit"] * 4
    assert [each.headers["x-mlxdeck-backend"] for each in both] == ["a", "a", "b", "b"]
    assert [end.model for end in ends[3:]] == ["a-model", "a-model", "b-model", "b-model"]


async def test_a_backend_that_loads_is_waited_for() -> None:
    """For as long as the setting says; then another one takes over, until it is there."""
    first, second = ScriptedBackend("a"), ScriptedBackend("b")
    first.goes_on.clear()
    async with running(backend=two(first, second)) as server:
        health = (await server.http.get("/health")).json()
        early = await server.ask("hello")
        named = asyncio.create_task(server.ask("hello", model="a/x"))
        await asyncio.sleep(0.1)
        first.goes_on.set()
        late = await server.ask("hello")
        (end, *_) = await server.ended(3)
        assert text_of(await named) == text_of(late)
        assert (await server.http.get("/health")).json()["status"] == "healthy"
    assert (health["status"], health["reason"]) == ("degraded", "a: loading; b takes over")
    assert (text_of(early), late.headers["x-mlxdeck-backend"]) == ("b as local", "a")
    assert (end.fell_back_from, end.fallback_reason) == ("a", "loading")


async def test_a_backend_that_is_down_is_not_asked() -> None:
    """Nobody waits for its time-outs; once it is well, it answers again."""
    first, second = ScriptedBackend("a"), ScriptedBackend("b")
    async with running(backend=two(first, second)) as server:
        first.health = Health("unhealthy", "it can't be reached")
        down = await server.ask("hello")
        assert not first.asked and (await server.http.get("/health")).status_code == 200
        first.health = Health("healthy")
        well = await server.ask("hello")
    assert [each.headers["x-mlxdeck-backend"] for each in (down, well)] == ["b", "a"]


async def test_tokens_are_counted_by_the_one_that_can() -> None:
    """As the request itself would be answered."""
    first, second = ScriptedBackend("a"), ScriptedBackend("bcd")
    async with running(backend=two(first, second)) as server:
        assert await counted(server) == 1
        first.refuses = PromptTooLong(9, 5)
        assert await counted(server) == 3


async def counted(server: Running) -> int:
    """The tokens of a request."""
    asked = {"model": "local", "messages": [{"role": "user", "content": "x"}]}
    answer = await server.http.post("/v1/messages/count_tokens", json=asked)
    return int(answer.json()["input_tokens"])


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_cancels_the_one_that_took_over(stream: bool) -> None:
    """It is asked nothing more, and telemetry says who it was."""
    first = ScriptedBackend("a", lambda _: [EngineFailed("the engine has failed")])
    second = ScriptedBackend("b", lambda _: [Started(Usage(3)), TextDelta("x"), 30.0])
    async with running(backend=two(first, second)) as server:
        asking = asyncio.create_task(server.ask("hello", stream=stream))
        await until(lambda: second.n_active)
        asking.cancel()
        await until(lambda: second.n_left and not second.n_active)
        (end,) = await server.ended(1)
    assert (end.outcome, end.backend, end.fell_back_from) == ("cancelled", "b", "a")


async def test_requests_that_wait_together_fall_back_together() -> None:
    """They share the first one's failure and the second one's answer."""
    first = ScriptedBackend("a", lambda _: [0.05, EngineFailed("the engine has failed")])
    second = ScriptedBackend("b", lambda _: [0.05, *said("shared")])
    async with running(backend=two(first, second)) as server:
        answers = await asyncio.gather(*(server.ask("hello") for _ in range(4)))
        ends = await server.ended(4)
    assert [text_of(answer) for answer in answers] == ["shared"] * 4
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert {end.fell_back_from for end in ends} == {"a"}


faults = st.sampled_from([fault for fault, _ in FAULTS])
pieces = st.lists(st.sampled_from([Ping(), TextDelta("x"), 0.0]), max_size=3)
"""What a backend sends before it ends, well or not."""


@st.composite
def scripts(draw: st.DrawFn, name: str) -> list[Any]:
    """An answer that may end anywhere."""
    marked = [TextDelta(name) if isinstance(each, TextDelta) else each for each in draw(pieces)]
    whole = [Started(Usage(3)), *marked, TextDelta(name), Finished("end_turn", Usage(3, 0, 1))]
    n_sent = draw(st.integers(0, len(whole)))
    return whole if n_sent == len(whole) else [*whole[:n_sent], draw(faults)]


@given(scripts("a"), scripts("b"), st.sets(st.sampled_from(FALLBACK_REASONS)), st.booleans())
def test_a_client_gets_one_end_of_one_answer(
    one: list[Any],
    two_: list[Any],
    on: set[str],
    fresh: bool,
) -> None:
    """Whatever fails wherever: the events are one backend's, in order, with one end."""
    asyncio.run(_one_end(one, two_, on, fresh))


async def _one_end(one: Any, two_: Any, on: set[str], fresh: bool) -> None:
    first, second = ScriptedBackend("a", lambda _: one), ScriptedBackend("b", lambda _: two_)
    async with piped(two(first, second, tuple(on))) as (pipeline, trace, telemetry):
        sent: list[Event] = []
        failed: ServerError | None = None
        try:
            async for event in pipeline.run(chat("hello"), trace, fresh=fresh):
                sent.append(event)
        except ServerError as error:
            failed = error
            trace.failed(error, "generate")
        trace.close()
    kinds = [type(event) for event in sent]
    assert kinds.count(Started) <= 1 and (not kinds or kinds[0] is Started)
    assert kinds.count(Finished) == (failed is None)
    assert failed is not None or kinds[-1] is Finished
    whose = {event.text for event in sent if isinstance(event, TextDelta)}
    assert len(whose) <= 1
    assert len(first.asked) == 1 and len(second.asked) <= 1
    (line,) = telemetry.named("request.end")
    end: Any = line.attrs
    assert whose <= {end.backend}
    assert end.outcome == ("error" if failed else "ok")
    assert end.fell_back_from == ("a" if second.asked else "")
    assert (first.n_active, second.n_active) == (0, 0)


@asynccontextmanager
async def piped(backend: RoutedBackend) -> AsyncIterator[tuple[Pipeline, Trace, MemoryWriter]]:
    """A started backend in its pipeline, and the trace of one request."""
    telemetry = MemoryWriter()
    await backend.start(lambda _: None, None)
    answers = TieredAnswers(MemoryAnswers(10, 1 << 20, 0))
    pool = ThreadPoolExecutor(1)
    try:
        trace = Observer(telemetry, "model", "full").begin(Arrival("req_1", "anthropic", 0))
        yield Pipeline(backend, answers, (), Lanes(Workers(pool), Workers(pool))), trace, telemetry
    finally:
        pool.shutdown()
        await backend.stop()


def chat(prompt: str) -> ChatRequest:
    """A request as the dialect decodes it."""
    messages = [{"role": "user", "content": prompt}]
    body = {"model": "local", "max_tokens": 9, "messages": messages}
    return DIALECTS["anthropic"].decode(json.dumps(body).encode(), {})
