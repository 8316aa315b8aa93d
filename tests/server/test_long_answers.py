"""No more than a little of what is long is handled at once on the event loop: counted."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.admin import status
from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Prefilled, Sampled, Step
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.reading import call_emitter
from mlxdeck.server.cache.answers.single_flight import AT_ONCE, Flight, Publish
from mlxdeck.server.chat import (
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from mlxdeck.server.dialects.anthropic.answers import AnthropicEncoder
from mlxdeck.server.dialects.openai_chat.answers import OpenAIEncoder
from mlxdeck.server.dialects.openai_responses.answers import ResponsesEncoder
from mlxdeck.server.dialects.openai_responses.requests import OpenAIResponses
from mlxdeck.server.joined_text import MAX_PIECES, JoinedText
from mlxdeck.server.lenient_json import decode_strictly
from mlxdeck.server.request_facts import StreamItem
from mlxdeck.server.schemas.validation import conforms
from mlxdeck.server.turns import AT_ONCE as MOST_AT_ONCE
from mlxdeck.server.turns import LoopTurns
from mlxdeck.server.web.answer_writer import LONG_CHARS
from tests.server.http import running

N_CHARS = 300_000
PIECE_CHARS = 512
CHANCE = random.Random(2)
WORDS = " ".join(f"w{CHANCE.randrange(10**6)}" for _ in range(N_CHARS // 8))
CALLED = f"<tool_call>\n{json.dumps({'name': 'write', 'arguments': {'text': WORDS}})}\n</tool_call>"


class Fast(EchoEngine):
    """Says long texts in few steps."""

    def _advance(self, uid: int, job: Any, n_tokens: int) -> Step | None:
        found = super()._advance(uid, job, n_tokens)
        if found is None or isinstance(found, Prefilled) or not found.text:
            return found
        more = job.answer[job.n_sampled : job.n_sampled + PIECE_CHARS - 1]
        job.n_sampled += len(more)
        return Sampled(uid, found.text + more, token=found.token)


class Handled:
    """How much was handled at once, on the event loop and elsewhere."""

    def __init__(self) -> None:
        self._loop = threading.get_ident()
        self.most = {True: 0, False: 0}
        """Characters, by whether it was on the loop."""

    def counting(self, work: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        """The same work, counted."""

        def counted(*args: Any, **more: Any) -> Any:
            on_loop = threading.get_ident() == self._loop
            self.most[on_loop] = max(self.most[on_loop], size(*args))
            return work(*args, **more)

        return counted


SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
FUNCTION = {"name": "write", "parameters": SCHEMA}
TURN = [{"role": "user", "content": "Go on."}]
APIS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "/v1/messages": (
        AnthropicEncoder,
        {"messages": TURN, "tools": [{"name": "write", "input_schema": SCHEMA}]},
    ),
    "/v1/chat/completions": (
        OpenAIEncoder,
        {"messages": TURN, "tools": [{"type": "function", "function": FUNCTION}]},
    ),
    "/v1/responses": (
        ResponsesEncoder,
        {"input": TURN, "tools": [{"type": "function", **FUNCTION}]},
    ),
}


def n_chars(said: Event | list[Event]) -> int:
    """Of all texts."""
    events = said if isinstance(said, list) else [said]
    texts = (each for each in events if isinstance(each, TextDelta | ThinkingDelta))
    calls = (each for each in events if isinstance(each, ToolCallDelta))
    return sum(len(each.text) for each in texts) + sum(len(each.json) for each in calls)


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("said", [CALLED, WORDS, f"<think>{WORDS}</think>done"])
async def test_the_end_of_a_long_answer_is_handled_elsewhere(
    path: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a call, judging it, and writing what is long as JSON; streamed or whole, or again."""
    handled, (encoder, asked) = Handled(), APIS[path]
    read = handled.counting(decode_strictly, len)
    judge = handled.counting(conforms, lambda value, _: len(str(value)))
    monkeypatch.setattr(call_emitter, "decode_strictly", read)
    monkeypatch.setattr(call_emitter, "conforms", judge)
    for name in ("encode", "collect"):
        write = handled.counting(getattr(encoder, name), lambda _, said: n_chars(said))
        monkeypatch.setattr(encoder, name, write)
    async with running(Fast(lambda _: said, context_tokens=1_000_000), loop_guard=False) as server:
        for n, stream in enumerate((True, False, True)):
            body = {"model": "m", "max_tokens": N_CHARS, "stream": stream, "seed": n // 2, **asked}
            response = await server.http.post(path, json=body)
            assert response.status_code == 200 and len(response.content) > len(WORDS)
    assert handled.most[True] <= LONG_CHARS and handled.most[False] >= len(WORDS)


@pytest.mark.parametrize("path", ["/v1/cache", "/metrics"])
async def test_caches_are_reported_beside_the_event_loop(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report may look at every block."""
    handled = Handled()
    report = handled.counting(LocalBackend.cache_report, lambda _: 1)
    monkeypatch.setattr(LocalBackend, "cache_report", report)
    async with running() as server:
        assert (await server.http.get(path)).status_code == 200
    assert handled.most == {True: 0, False: 1}


async def test_versions_are_read_from_disk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each time that somebody asks how the server is."""
    async with running() as server:
        known = (await server.http.get("/v1/status")).json()["versions"]
        monkeypatch.setattr(status, "version", lambda _: pytest.fail("it was read again"))
        assert (await server.http.get("/v1/status")).json()["versions"] == known
        assert b"mlxdeck_build_info" in (await server.http.get("/metrics")).content


async def test_long_stored_answers_are_written_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a whole, and what they answered; also bodies that are refused."""
    handled = Handled()
    for name in ("stored_body", "input_body"):
        write = handled.counting(getattr(OpenAIResponses, name), lambda _, answer: answer.n_bytes)
        monkeypatch.setattr(OpenAIResponses, name, write)
    async with running(Fast(lambda _: "ok")) as server:
        made = await server.http.post("/v1/responses", json={"model": "m", "input": WORDS[:60_000]})
        place = f"/v1/responses/{made.json()['id']}"
        for path in (place, f"{place}/input_items"):
            assert (await server.http.get(path)).status_code == 200
    assert not handled.most[True] and handled.most[False] > 60_000


async def test_a_flight_keeps_few_events_of_a_long_answer() -> None:
    """Who joins late gets the same text, in one piece."""
    more = asyncio.Event()

    async def produce(publish: Publish) -> None:
        publish(Started(Usage(1)))
        for n in range(20 * AT_ONCE):
            publish(TextDelta(f"{n} "))
            await asyncio.sleep(0)
        await more.wait()
        publish(Finished("end_turn", Usage(1)))

    flight = Flight(produce, lambda _: None)
    first, second = list[StreamItem](), list[StreamItem]()
    async for item in flight.follow():
        first.append(item)
        assert len(flight._events) < 2 * AT_ONCE
        if len(first) == 1 + 20 * AT_ONCE:
            late = flight.follow(joined=True)
            second.append(await anext(late))
            more.set()
    second += [item async for item in late]
    whole = "".join(item.text for item in first if isinstance(item, TextDelta))
    assert "".join(item.text for item in second if isinstance(item, TextDelta)) == whole
    assert isinstance(second[0], Started) and second[0].cache == "hit"
    assert isinstance(second[-1], Finished) and len(second) < 2 * AT_ONCE


async def test_others_get_on_beside_a_long_list() -> None:
    """After a few of its items."""
    done, seen = 0, list[int]()

    async def watch() -> None:
        while True:
            seen.append(done)
            await asyncio.sleep(0)

    watching, turns = asyncio.create_task(watch()), LoopTurns()
    for done in range(1, 10 * MOST_AT_ONCE):  # noqa: B007 - `watch` reads it
        await turns.take()
    watching.cancel()
    assert max(b - a for a, b in itertools.pairwise([0, *seen])) <= MOST_AT_ONCE


@given(st.lists(st.text(max_size=3), max_size=3 * MAX_PIECES))
def test_a_joined_text_is_its_pieces(pieces: list[str]) -> None:
    """From the front and from the back, in few parts."""
    joined = JoinedText()
    for piece in pieces:
        joined.add(piece)
    parts = [*joined.backwards()]
    assert len(parts) <= MAX_PIECES + len(pieces) // MAX_PIECES
    assert "".join(reversed(parts)) == joined.text == "".join(pieces)
    assert joined.n_chars == len(joined.text) and len([*joined.backwards()]) == 1
