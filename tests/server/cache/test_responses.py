"""Exact answers: what may be repeated, what is repeated, and what goes first."""

from __future__ import annotations

import pytest

from mlxdeck.server.cache.responses import Answer, ResponseCache, complete_answer
from mlxdeck.server.messages import (
    Event,
    Finished,
    Ping,
    Started,
    StopReason,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)

CALL: list[Event] = [ToolCallStart("toolu_1", "Read"), ToolCallDelta("{}"), ToolCallEnd("json")]


def sent(reason: StopReason = "end_turn", text: str = "abc") -> list[Event]:
    """The events of an answer as they went out."""
    return [
        Started(Usage(10, 4)),
        Ping(),
        *[TextDelta(char) for char in text],
        *CALL,
        Finished(reason, Usage(10, 4, 7)),
    ]


def answer(text: str = "abc") -> Answer:
    """An answer that may be kept."""
    made = complete_answer(sent(text=text))
    assert made is not None
    return made


async def test_a_replay_says_the_same_in_fewer_pieces() -> None:
    """Deltas are joined, pings are gone, calls are whole, and every prompt token was cached."""
    assert [event async for event in answer().replay()] == [
        Started(Usage(10, 10), cache="hit"),
        TextDelta("abc"),
        *CALL,
        Finished("end_turn", Usage(10, 10, 7)),
    ]


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "tool_use"])
def test_whole_answers_are_kept(reason: StopReason) -> None:
    """Every way for a model to end an answer itself can be repeated."""
    assert complete_answer(sent(reason)) is not None


def test_cut_off_and_unfinished_answers_are_not_kept() -> None:
    """What hit its token limit, broke off, or never began is not repeated."""
    assert complete_answer(sent("max_tokens")) is None
    assert complete_answer(sent()[:-1]) is None
    assert complete_answer([]) is None


def test_the_longest_unused_answer_goes_first() -> None:
    """By number of entries, where a hit counts as use."""
    cache = ResponseCache(max_entries=2, max_bytes=1 << 20)
    cache.put("a", answer())
    cache.put("b", answer())
    assert cache.get("a")
    cache.put("c", answer())
    assert cache.get("b") is None
    assert cache.get("a") and cache.get("c")
    assert (cache.tally.total.hits, cache.tally.total.misses) == (3, 1)


def test_the_byte_limit_holds_always() -> None:
    """Bytes are counted right through replacing, evicting and clearing."""
    one = answer("x" * 1000).n_bytes
    cache = ResponseCache(max_entries=100, max_bytes=int(2.5 * one))
    for key in "abcab":
        cache.put(key, answer("x" * 1000))
        assert cache.n_bytes == one * len(cache) <= 2.5 * one
    cache.put("huge", answer("x" * 100_000))
    assert cache.get("huge") is None and len(cache) == 2
    assert cache.clear() == 2 and cache.n_bytes == 0


def test_a_cache_without_room_is_off() -> None:
    """Zero entries turn it off."""
    cache = ResponseCache(max_entries=0, max_bytes=1 << 20)
    cache.put("a", answer())
    assert not cache.enabled and len(cache) == 0
