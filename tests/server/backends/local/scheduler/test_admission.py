"""Who is let in: sessions in turn, short ones also if all places are taken, and what fits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as TokenSequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    ModelInfo,
    Progress,
    Reads,
    Room,
    State,
    Step,
)
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.engine.kv_cost import STEP_TOKENS, KVCost, LayerCost
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
    NEAR_TOKENS,
    Demand,
    KVBudget,
)
from mlxdeck.server.backends.local.scheduler.kv_room import KVRoom
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from mlxdeck.server.errors import PromptTooLong
from tests.server.backends.local.scheduler.test_scheduler import answer, job
from tests.server.http import until

TOKEN_BYTES = 8
COST = KVCost((LayerCost(TOKEN_BYTES),))


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
    budget = KVBudget(COST, COST.bytes_of(1_000))
    demands = [Demand(100, 50), Demand(200, 100_000, held_tokens=150)]
    # Of the room that it has to grow into nothing may be left.
    wanted = COST.bytes_of(150) + TOKEN_BYTES * (50 + EXPECTED_ANSWER_TOKENS + STEP_TOKENS)
    assert budget.lacking_bytes(demands, 0) == wanted
    assert budget.lacking_bytes(demands, wanted - 1) == 1
    assert budget.lacking_bytes(demands, wanted) == 0
    assert budget.most_tokens(5_000) == 1_000
    assert budget.most_tokens(10) == 10
    assert KVBudget().most_tokens(5_000) == 5_000
    assert KVBudget().lacking_bytes(demands, 0) == 0


def test_an_answer_that_gets_long_is_reckoned_with_some_tokens_more() -> None:
    """And never with more than it may have."""
    assert Demand(100, 9_000, 5_100, 5_000).expected_tokens == 5_100 + NEAR_TOKENS
    assert Demand(100, 5_010, 5_100, 5_000).expected_tokens == 5_110
    assert Demand(100, 9_000, 60).near().expected_tokens < 100 + NEAR_TOKENS


class Small(EchoEngine):
    """A device of a set size, on which states of sequences and of caches take their place."""

    whole_bytes = COST.bytes_of(1_000)
    cached_bytes = 0
    most_held_bytes = 0
    slow_s: Callable[[], float] = staticmethod(lambda: 0.0)
    """How long a step takes; the test sees what is there meanwhile."""

    def load(self, progress: Progress) -> ModelInfo:
        """With the size of a token."""
        return replace(super().load(progress), kv_cost=COST)

    @property
    def held_bytes(self) -> int:
        """Of sequences and caches."""
        rows = self._running.values()
        held = (each.n_done + each.n_sampled - each.n_before for each in rows)
        return sum(map(COST.bytes_of, held)) + self.cached_bytes

    def step(self, reads: Reads = None) -> list[Step]:
        """Notes what is held behind it."""
        time.sleep(self.slow_s())
        found = super().step(reads)
        self.most_held_bytes = max(self.most_held_bytes, self.held_bytes)
        return found

    def room(self) -> Room:
        """What is not held."""
        return Room(self.whole_bytes - self.held_bytes, self.whole_bytes)

    def give_way(self, n_bytes: int) -> int:
        """Free something of the cache."""
        freed = min(n_bytes, self.cached_bytes)
        self.cached_bytes -= freed
        return freed


@asynccontextmanager
async def loaded(engine: Small) -> AsyncIterator[Scheduler]:
    """A scheduler over it."""
    scheduler = Scheduler(
        engine, max_batch=8, max_waiting=8, prefill_chunk_tokens=64, ping_s=5, stall_s=60
    )
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    scheduler.relieve_by(lambda: None, engine.give_way)
    try:
        yield scheduler
    finally:
        await scheduler.stop()


@pytest.mark.parametrize("is_own", [True, False])
def test_a_cache_is_not_refused_memory_beside_other_programs(
    monkeypatch: pytest.MonkeyPatch, is_own: bool
) -> None:
    """What it gives up there may not come back to the system: nothing would be known any more."""
    engine = EchoEngine()
    monkeypatch.setattr(engine, "room", lambda: Room(0, 1 << 40, is_own=is_own))
    room = KVRoom(engine, lambda _, work: (work(), ""))
    assert (room.free_bytes() > 1 << 40) is not is_own
    assert (room.free_bytes() == 0) is is_own


async def test_only_as_many_run_as_there_is_memory_for() -> None:
    """The others wait, and are answered when it is free again."""
    engine = Small(step_s=0.001)
    async with loaded(engine) as scheduler:
        # Each takes 425 tokens, and 200 more for the answer that it may write.
        jobs = [job("x" * 400, max_tokens=200) for _ in range(3)]
        asked = [asyncio.create_task(answer(scheduler, each)) for each in jobs]
        await until(lambda: any(each.work.waits_for == "memory" for each in jobs))
        assert scheduler.status.active == 1
        assert await asyncio.gather(*asked) == [("x" * 200, "length")] * 3
    assert engine.most_held_bytes <= engine.whole_bytes


async def test_caches_give_way_before_requests_wait() -> None:
    """As much as is needed, and no more; also for a request that is alone."""
    engine = Small(step_s=0.001)
    engine.whole_bytes = COST.bytes_of(1_500)
    engine.cached_bytes = engine.whole_bytes - COST.bytes_of(100)
    async with loaded(engine) as scheduler:
        first = asyncio.create_task(answer(scheduler, job("x" * 20, max_tokens=200)))
        await until(lambda: scheduler.status.active == 1)
        left = engine.cached_bytes
        assert 0 < left < engine.whole_bytes - COST.bytes_of(100)
        second = job("y" * 20, max_tokens=200)
        assert await answer(scheduler, second) == ("y" * 20, "stop")
        assert 0 < engine.cached_bytes < left
        assert second.work.waits_for == ""
        await first
    assert engine.most_held_bytes <= engine.whole_bytes


async def test_what_is_stored_does_not_take_the_room_of_those_that_run() -> None:
    """A cache that fills up again behind their admission gives way again."""
    engine = Small(lambda _: "z" * 400, step_s=0.001)
    async with loaded(engine) as scheduler:

        def keep(_: KVState) -> None:
            engine.cached_bytes = engine.whole_bytes - engine.held_bytes

        first = asyncio.create_task(answer(scheduler, job("x" * 100, max_tokens=500)))
        await until(lambda: scheduler.status.active == 1)
        second = job("y", max_tokens=1)
        second.keep = keep
        assert await answer(scheduler, second) == ("z", "length")
        assert await first == ("z" * 400, "stop")
    assert engine.most_held_bytes <= engine.whole_bytes


def _are_active(scheduler: Scheduler, n: int) -> bool:
    return scheduler.status.active == n


def long_answers(prompt: str) -> str:
    """Different ones for different prompts, longer than is reckoned with."""
    return "".join(f"{prompt[6]}{n} " for n in range(EXPECTED_ANSWER_TOKENS))[:2_800]


async def test_the_last_to_come_gives_up_its_place_and_goes_on_later() -> None:
    """Where answers get longer than was reckoned; the text is the same, and no limit is passed."""
    engine = Small(long_answers)
    engine.whole_bytes = COST.bytes_of(2_300) + COST.bytes_of(2_300)
    async with loaded(engine) as scheduler:
        states: dict[tuple[int, ...], KVState] = {}

        def keep(kept: KVState) -> None:
            states[tuple(kept.tokens)] = kept

        def lease(tokens: TokenSequence[int]) -> tuple[int, State]:
            known = states.get(tuple(tokens))
            return (len(tokens) - 1, known.state[:-1]) if known else (0, None)

        jobs = [job(letter, max_tokens=9_000) for letter in "ab"]
        for each in jobs:
            each.keep, each.lease = keep, lease
        asked = []
        # Until the second one writes, and while it has no place.
        engine.slow_s = lambda: 0.01 if not jobs[1].work.n_tokens or jobs[1].rest else 0.0
        for n, each in enumerate(jobs, 1):
            asked.append(asyncio.create_task(answer(scheduler, each)))
            await until(partial(_are_active, scheduler, n))
        await until(lambda: jobs[1].work.times.paused_s)
        assert jobs[1].work.state[0] == "wait" and jobs[1].work.n_tokens > 1_500
        assert (scheduler.status.active, scheduler.status.queued) == (1, 1)
        engine.slow_s = lambda: 0.0
        told = await asyncio.gather(*asked)
        assert told == [(long_answers(f"<user>{each}"), "stop") for each in "ab"]
        assert [each.work.n_tokens for each in jobs] == [2_801, 2_801]
        assert not jobs[0].work.times.paused_s and jobs[1].rest is not None
    assert engine.most_held_bytes <= engine.whole_bytes


async def test_an_answer_that_is_alone_ends_where_memory_ends() -> None:
    """As at its token limit, and no later."""
    engine = Small(lambda _: "x" * 5_000)
    async with loaded(engine) as scheduler:
        text, reason = await answer(scheduler, job("x", max_tokens=5_000))
        assert reason == "length" and 500 < len(text) < 1_000
        assert await answer(scheduler, job("again", max_tokens=3)) == ("xxx", "length")
    assert engine.most_held_bytes <= engine.whole_bytes


async def test_what_can_never_fit_is_refused_at_once() -> None:
    """In the words by which clients notice that they have to shorten the conversation."""
    async with loaded(Small()) as scheduler:
        with pytest.raises(PromptTooLong) as refused:
            async with scheduler.submit(job("z" * 1_000)):
                pass
        assert refused.value.limit_tokens == 1_000
        assert await answer(scheduler, job("fits")) == ("fits", "stop")
