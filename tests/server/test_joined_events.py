"""Events of long answers: joined once, and written beside the event loop."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.cache.answers.memory import complete_answer
from mlxdeck.server.chat import (
    Event,
    Finished,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from mlxdeck.server.checkpoints import Lanes, Workers
from mlxdeck.server.dialects.base import Encoder
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.joined_events import JoinedEvents
from mlxdeck.server.web.answer_writer import LONG_CHARS, AnswerWriter
from tests.server.http import running, until

USAGE = Usage(10)
START, END = Started(USAGE), Finished("end_turn", USAGE)
EVENTS = st.sampled_from(
    [START, Ping(), ToolCallStart("id", "Read"), ToolCallEnd("json"), END]
    + [kind(text) for kind in (TextDelta, ThinkingDelta, ToolCallDelta) for text in ("", "a", "b")]
)
ASKED: dict[str, dict[str, Any]] = {
    "anthropic": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "openai": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"input": "Hi"},
    "openai_completions": {"prompt": "Hi"},
}


@given(st.lists(EVENTS, max_size=20))
def test_adjoining_pieces_of_a_kind_are_one(events: list[Event]) -> None:
    """Nothing else changes, wherever it is looked at in between."""
    joined = JoinedEvents()
    for event in events:
        joined.add(event)
    kept = [event for event in events if not isinstance(event, Started | Ping)]
    wanted: list[Event] = []
    for kind, group in groupby(kept, type):
        if issubclass(kind, TextDelta | ThinkingDelta | ToolCallDelta):
            wanted.append(kind("".join(getattr(each, kind.__slots__[0]) for each in group)))
        else:
            wanted += group
    assert bool(joined) == bool(wanted)
    assert joined.events == joined.events == wanted


def long_answer(n_events: int, kind: str) -> list[Event]:
    """An answer of many pieces."""
    if kind == "call":
        pieces: list[Event] = [ToolCallStart("id", "Write"), ToolCallDelta('{"a":"')]
        pieces += [ToolCallDelta("word") for _ in range(n_events)]
        return [START, *pieces, ToolCallDelta('"}'), ToolCallEnd("json"), END]
    return [START, *[TextDelta("word") for _ in range(n_events)], END]


class Copied(str):
    """A text that counts the characters that joining it copies."""

    n_chars = 0

    def __add__(self, other: str) -> Copied:
        Copied.n_chars += len(self) + len(other)
        return Copied(str(self) + other)


def test_no_text_is_copied_with_each_of_its_pieces() -> None:
    """Each is put together once, at the end."""
    Copied.n_chars = 0
    answer = complete_answer([START, *[TextDelta(Copied("word")) for _ in range(500)], END])
    assert answer is not None and answer.deltas == (TextDelta("word" * 500),)
    assert Copied.n_chars == 0
    assert answer.n_bytes >= 2_000


@pytest.fixture
def lanes() -> Any:
    """Threads as a server has them."""
    pools = [ThreadPoolExecutor(1, name) for name in ("medium", "long")]
    yield Lanes(*map(Workers, pools))
    for pool in pools:
        pool.shutdown()


class Noted:
    """An encoder that notes on which threads it is called."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.threads: list[int] = []
        self.error = encoder.error

    def encode(self, event: Event) -> bytes:
        """As the encoder does."""
        self.threads.append(threading.get_ident())
        return self._encoder.encode(event)

    def collect(self, events: Iterable[Event]) -> bytes:
        """As the encoder does."""
        self.threads.append(threading.get_ident())
        return self._encoder.collect(events)


async def sent(events: list[Event]) -> AsyncGenerator[Event]:
    """As a backend sends them."""
    for event in events:
        yield event


@pytest.mark.parametrize("kind", ["text", "call"])
@pytest.mark.parametrize("name", DIALECTS)
async def test_a_long_answer_is_written_beside_the_loop(lanes: Lanes, name: str, kind: str) -> None:
    """Whole, or again as a stream; the same bytes as an encoder of its own writes."""
    dialect = DIALECTS[name]
    asked = dialect.decode(json.dumps({"model": "m", **ASKED[name]}).encode(), {})
    loop_thread = threading.get_ident()
    for n_events in (4, LONG_CHARS // 4 + 1):
        first, *rest = long_answer(n_events, kind)
        joined = JoinedEvents()
        for event in rest:
            joined.add(event)
        told = [first, *joined.events]
        for is_stream in (False, True):
            encoder = Noted(dialect.encoder(asked, "msg_1"))
            writer = AnswerWriter(encoder, lanes)
            whole = await writer.whole(first, sent(rest), is_stream=is_stream)
            assert (loop_thread in encoder.threads) == (n_events == 4)
            own = dialect.encoder(asked, "msg_1")
            wanted = b"".join(map(own.encode, told)) if is_stream else own.collect(told)
            assert len(whole) == len(wanted)


async def test_the_end_of_a_long_stream_is_written_beside_the_loop(lanes: Lanes) -> None:
    """Where all of it is said again, and where one piece is long."""
    dialect = DIALECTS["openai_responses"]
    asked = dialect.decode(json.dumps({"model": "m", **ASKED["openai_responses"]}).encode(), {})
    encoder = Noted(dialect.encoder(asked, "msg_1"))
    writer = AnswerWriter(encoder, lanes)
    long = TextDelta("x" * (LONG_CHARS + 1))
    for event in (START, TextDelta("a"), long, TextDelta("b"), END):
        await writer.piece(event)
    on_loop = [thread == threading.get_ident() for thread in encoder.threads]
    assert on_loop == [True, True, False, True, False]


async def test_who_joins_a_generation_gets_its_pieces_as_they_come() -> None:
    """They are not held back until the end, as those of a stored answer may be."""
    async with running(EchoEngine(step_s=0.01)) as server:
        body = {"model": "m", "max_tokens": 500, "stream": True}
        body["messages"] = [{"role": "user", "content": "many words " * 8}]

        async def pieces() -> tuple[str, int]:
            async with server.http.stream("POST", "/v1/messages", json=body) as answer:
                return answer.headers["x-mlxdeck-cache"], len(
                    [piece async for piece in answer.aiter_raw()]
                )

        first = asyncio.create_task(pieces())
        await until(lambda: server.service.load.active)
        joined = await pieces()
        assert joined[0] == "hit" and joined[1] > 10
        assert (await first)[0] == "miss"


def n_calls(n_events: int, name: str, kind: str) -> int:
    """Calls of functions for the body of an answer of so many events."""
    dialect = DIALECTS[name]
    asked = dialect.decode(json.dumps({"model": "m", **ASKED[name]}).encode(), {})
    events, encoder, n = long_answer(n_events, kind), dialect.encoder(asked, "msg_1"), 0

    def count(frame: FrameType, what: str, _: Any) -> None:
        nonlocal n
        del frame
        n += what in ("call", "c_call")

    sys.setprofile(count)
    try:
        for event in events:
            encoder.encode(event)
    finally:
        sys.setprofile(None)
    return n


@pytest.mark.parametrize("kind", ["text", "call"])
@pytest.mark.parametrize("name", DIALECTS)
def test_writing_a_stream_takes_as_long_as_the_answer_is(name: str, kind: str) -> None:
    """Twice as many events are twice the work."""
    short, long = (n_calls(n, name, kind) for n in (500, 2_000))
    assert long < 5 * short
