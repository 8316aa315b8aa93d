"""Exact answers: what may be repeated, what is repeated, and what goes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxdeck.server.cache.answers.loss_reasons import MAX_KEYS, LossReasons
from mlxdeck.server.cache.answers.memory import Answer, MemoryAnswers, complete_answer
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.chat import (
    Event,
    Finished,
    Ping,
    Started,
    StopReason,
    TextDelta,
    ThinkingDelta,
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


def test_a_replay_says_the_same_in_fewer_pieces() -> None:
    """Deltas are joined, pings are gone, calls are whole, and every prompt token was cached."""
    assert list(answer().events()) == [
        Started(Usage(10, 10), cache="hit"),
        TextDelta("abc"),
        *CALL,
        Finished("end_turn", Usage(10, 10, 7)),
    ]


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "tool_use", "max_tokens"])
def test_finished_answers_are_kept(reason: StopReason) -> None:
    """Also one that hit its limit, which is what an identical request asks for."""
    assert complete_answer(sent(reason)) is not None


END = Finished("end_turn", Usage(10, 4, 7))
START = Started(Usage(10, 4))


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(sent()[:-1], id="it broke off"),
        pytest.param([], id="it never began"),
        pytest.param([START, END], id="empty"),
        pytest.param([START, TextDelta(" \n"), END], id="blank"),
        pytest.param([START, ThinkingDelta("Hm"), END], id="only thought"),
        pytest.param([START, ThinkingDelta("Hm"), replace(END, reason="max_tokens")], id="cut"),
        pytest.param([*sent()[:-1], replace(END, ended_by="loop")], id="in circles"),
        pytest.param([*sent()[:-1], replace(END, n_bad_calls=1)], id="a call as text"),
        pytest.param(
            [*CALL[:2], ToolCallEnd("json", schema_valid=False), END], id="a call that is wrong"
        ),
    ],
)
def test_what_a_retry_should_not_get_again_is_not_kept(events: list[Event]) -> None:
    """Whoever asks again hopes for another answer."""
    assert complete_answer(events) is None


@pytest.mark.parametrize("valid", [True, None])
def test_calls_are_kept_unless_they_are_known_to_be_wrong(valid: bool | None) -> None:
    """Also a call alone, one that was cut off, and one whose schema nobody can judge by."""
    assert complete_answer([*CALL[:2], ToolCallEnd("json", schema_valid=valid), END])
    assert complete_answer([*CALL[:2], replace(END, reason="max_tokens")])


def test_the_longest_unused_answer_goes_first() -> None:
    """By number of entries, where a hit counts as use."""
    cache = MemoryAnswers(max_entries=2, max_bytes=1 << 20)
    cache.put("a", answer())
    cache.put("b", answer())
    assert cache.get("a")
    cache.put("c", answer())
    assert cache.get("b") is None
    assert cache.get("a") and cache.get("c")
    assert (cache.stats.total.hits, cache.stats.total.misses) == (3, 1)


def test_the_byte_limit_holds_always() -> None:
    """Bytes are counted right through replacing, evicting and clearing."""
    one = answer("x" * 1000).n_bytes
    cache = MemoryAnswers(max_entries=100, max_bytes=int(2.5 * one))
    for key in "abcab":
        cache.put(key, answer("x" * 1000))
        assert cache.n_bytes == one * len(cache) <= 2.5 * one
    cache.put("huge", answer("x" * 100_000))
    assert cache.get("huge") is None and len(cache) == 2
    assert cache.clear() == 2 and cache.n_bytes == 0


def test_a_cache_without_room_is_off() -> None:
    """Zero entries turn it off."""
    cache = MemoryAnswers(max_entries=0, max_bytes=1 << 20)
    cache.put("a", answer())
    assert not cache.enabled and len(cache) == 0


def test_an_old_answer_is_no_longer_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is asked for, or when it is looked for; a clock that was set back doesn't matter."""
    now_s = [1_000_000.0]
    monkeypatch.setattr("mlxdeck.server.cache.answers.memory.time.time", lambda: now_s[0])
    cache, forever = (MemoryAnswers(10, 1 << 20, age_s) for age_s in (60.0, 0.0))
    for kept in (cache, forever):
        kept.put("a", answer())
        kept.put("b", answer())
    now_s[0] -= 1000
    assert cache.get("a")
    now_s[0] += 1059
    assert cache.get("a")
    now_s[0] += 2
    assert cache.get("a") is None and len(cache) == 1
    cache.expire()
    forever.expire()
    assert len(cache) == 0 and cache.n_bytes == 0 and len(forever) == 2
    assert cache.stats.evictions == {"expired": 2}
    assert {TieredAnswers(cache).miss_reason(key) for key in "ab"} == {"expired"}


def test_a_miss_has_a_reason() -> None:
    """Evicted, refused, or never seen; what is here again has none."""
    cache = TieredAnswers(MemoryAnswers(1, 1 << 20))
    cache.put("a" * 80, answer())
    cache.put("b" * 80, answer())
    cache.refuse("c" * 80)
    told = {key: cache.miss_reason(key * 80) for key in "acd"}
    assert told == {"a": "evicted", "c": "not_kept", "d": "cold"}
    cache.put("c" * 80, answer())
    cache.ram.clear()
    assert cache.miss_reason("c" * 80) == "cold"


def test_reasons_are_forgotten_in_the_end() -> None:
    """The oldest first."""
    gone = LossReasons()
    for n in range(MAX_KEYS + 1):
        gone.add(str(n), "evicted")
    assert (gone.why("0"), gone.why("1")) == ("", "evicted")
