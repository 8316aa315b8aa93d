"""Who is let in: sessions in turn, short ones also if all places are taken, and what fits."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress, Room
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.scheduler.admission import (
    EXTRA_SHARE,
    MAX_PASSED,
    Candidate,
    Place,
    next_place,
)
from mlxdeck.server.backends.local.scheduler.batching import Batching
from mlxdeck.server.backends.local.scheduler.kv_budget import (
    EXPECTED_ANSWER_TOKENS,
    Demand,
    KVBudget,
)
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.errors import PromptTooLong
from tests.server.backends.local.scheduler.test_scheduler import answer, job
from tests.server.http import until

TOKEN_BYTES = 8


def place(
    waiting: list[Candidate], running: str, max_batch: int = 8, extra: str = ""
) -> int | None:
    """Who is let in beside sessions of one letter each, those of extra places apart."""
    places = [Place(each) for each in running] + [Place(each, True) for each in extra]
    found = next_place(waiting, places, max_batch=max_batch, short_tokens=512)
    return None if found is None else found.index


def test_the_session_with_the_fewest_places_is_next() -> None:
    """However many requests of another one came before."""
    crowd = [Candidate("a", 10) for _ in range(30)]
    assert place([*crowd, Candidate("b", 9_000)], "aa") == 30
    assert place([*crowd, Candidate("b", 9_000)], "ab") == 0
    assert place(crowd, "") == 0
    assert place([], "") is None


def test_nobody_is_passed_over_for_ever() -> None:
    """Whoever was passed over often enough is next."""
    old = Candidate("a", 10, MAX_PASSED)
    assert place([Candidate("a", 10), old, Candidate("b", 10)], "aaa") == 1


def test_a_short_request_finds_a_place_where_all_are_taken() -> None:
    """If its session has none; a few of them, and no long one."""
    short, long = Candidate("b", 500), Candidate("c", 513)
    assert place([long, Candidate("a", 5), short], "a" * 8) == 2
    assert place([short], "a" * 8, extra="b") is None
    assert place([short], "a" * 8, extra="cd") is None
    assert place([short], "a" * 3, max_batch=3) is None


def test_short_requests_do_not_keep_others_from_their_places() -> None:
    """However many are in extra places: a place that is left goes to whoever is next."""
    long = Candidate("c", 9_000)
    assert place([long, Candidate("d", 5)], "a" * 7, extra="ef") == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), max_batch=st.integers(1, 8), n_steps=st.integers(2, 40))
def test_a_long_request_gets_in_under_a_constant_load_of_short_ones(
    seed: int, max_batch: int, n_steps: int
) -> None:
    """A short one of a new session comes with every step; each runs for some of them."""
    random = Random(seed)
    long = Candidate("long", 9_000)
    ends: list[tuple[int, Place]] = [(0, Place(f"old{n}")) for n in range(max_batch)]
    waiting, n_passed = [long], 0
    for step in range(n_steps * (MAX_PASSED + max_batch)):
        ends = [(at, each) for at, each in ends if at > step]
        waiting.append(Candidate(f"s{step}", 20))
        while choice := next_place(
            waiting, [each for _, each in ends], max_batch=max_batch, short_tokens=512
        ):
            found = waiting.pop(choice.index)
            if found.session == "long":
                return
            n_passed += 1
            waiting[0] = replace(waiting[0], n_passed=n_passed)
            taken = Place(found.session, choice.is_extra)
            ends.append((step + random.randint(1, n_steps), taken))
        assert len(ends) <= max_batch + max_batch // EXTRA_SHARE
    raise AssertionError("it waits for ever")


def test_what_was_passed_over_is_counted() -> None:
    """Only by those that came later."""
    batching = Batching(max_batch=1, chunk_tokens=64, budget_tokens=0)
    jobs = [job(f"{n}") for n in range(MAX_PASSED + 3)]
    large, last = jobs[0], jobs[-1]
    waiting = deque(jobs)

    def fits(each: Sequence, beside: object) -> bool:
        del beside
        return each is not large

    for n in range(MAX_PASSED):
        assert batching.admit(waiting, {}, fits) is jobs[n + 1]
    assert batching.admit(waiting, {}, fits) is None
    assert (large.work.position, large.work.waits_for) == (1, "memory")
    assert last.work.waits_for == "a place in the batch"
    assert last.n_passed == 0
    assert batching.admit(waiting, {}, lambda *_: True) is large


def test_bytes_are_those_of_prompt_and_expected_answer_less_what_is_held() -> None:
    """Of all that run, and of the one that comes."""
    budget = KVBudget(TOKEN_BYTES, 8_000)
    new, old = Demand(100, 50), Demand(200, 100_000, held_tokens=150)
    wanted = TOKEN_BYTES * (150 + 50 + EXPECTED_ANSWER_TOKENS)
    assert budget.lacking_bytes(new, [old], 0) == wanted
    assert budget.lacking_bytes(new, [old], wanted - 1) == 1
    assert budget.lacking_bytes(new, [old], wanted) == 0
    assert budget.most_tokens == 1_000
    assert KVBudget().most_tokens is None
    assert KVBudget().lacking_bytes(new, [old], 0) == 0


class Small(EchoEngine):
    """A device of a set size, on which states of sequences and of caches take their place."""

    whole_bytes = TOKEN_BYTES * 1_000
    cached_bytes = 0
    n_most = 0

    def load(self, progress: Progress) -> ModelInfo:
        """With the size of a token."""
        info = super().load(progress)
        return replace(info, kv_bytes=TOKEN_BYTES * info.context_tokens)

    def room(self) -> Room:
        """What neither has."""
        self.n_most = max(self.n_most, len(self._running))
        held = sum(each.n_done + each.n_sampled for each in self._running.values())
        return Room(self.whole_bytes - TOKEN_BYTES * held - self.cached_bytes, self.whole_bytes)

    def give_way(self, n_bytes: int) -> int:
        """Free something of the cache."""
        freed = min(n_bytes, self.cached_bytes)
        self.cached_bytes -= freed
        return freed


async def loaded(engine: Small) -> Scheduler:
    """A scheduler over it."""
    scheduler = Scheduler(
        engine, max_batch=8, max_waiting=8, prefill_chunk_tokens=64, ping_s=5, stall_s=60
    )
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    scheduler.relieve_by(lambda: None, engine.give_way)
    return scheduler


async def test_only_as_many_run_as_there_is_memory_for() -> None:
    """The others wait, and are answered when it is free again."""
    engine = Small(step_s=0.001)
    scheduler = await loaded(engine)
    try:
        # Each takes 425 tokens, and 200 more for the answer that it may write.
        jobs = [job("x" * 400, max_tokens=200) for _ in range(3)]
        asked = [asyncio.create_task(answer(scheduler, each)) for each in jobs]
        await until(lambda: any(each.work.waits_for == "memory" for each in jobs))
        assert scheduler.status.active == 1
        assert await asyncio.gather(*asked) == [("x" * 200, "length")] * 3
    finally:
        await scheduler.stop()


async def test_caches_give_way_before_requests_wait() -> None:
    """As much as is needed, and no more."""
    engine = Small(step_s=0.001)
    engine.cached_bytes = TOKEN_BYTES * 700
    scheduler = await loaded(engine)
    try:
        first = asyncio.create_task(answer(scheduler, job("x" * 200, max_tokens=200)))
        await until(lambda: scheduler.status.active == 1)
        assert engine.cached_bytes == TOKEN_BYTES * 700
        second = job("y" * 200, max_tokens=200)
        assert await answer(scheduler, second) == ("y" * 200, "length")
        assert 0 < engine.cached_bytes < TOKEN_BYTES * 700
        assert second.work.waits_for == ""
        await first
    finally:
        await scheduler.stop()


async def test_what_can_never_fit_is_refused_at_once() -> None:
    """In the words by which clients notice that they have to shorten the conversation."""
    scheduler = await loaded(Small())
    try:
        with pytest.raises(PromptTooLong) as refused:
            async with scheduler.submit(job("z" * 1_000)):
                pass
        assert refused.value.limit_tokens == 1_000
        assert await answer(scheduler, job("fits")) == ("fits", "stop")
    finally:
        await scheduler.stop()
