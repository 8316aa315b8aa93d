"""What each step reads: short prompts first, long ones in time, sessions alike; counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.scheduler.fair_share import WINDOW_STEPS
from mlxdeck.server.backends.local.scheduler.pace import Speeds
from mlxdeck.server.backends.local.scheduler.step_plan import (
    AGE_STEPS,
    EVERY,
    FRESH_TOKENS,
    LONE_SHARE,
    PAUSE_STEPS,
    PREFILL_SHARE,
    Reading,
    StepPlanner,
)

CHUNK = 512
SPEEDS = Speeds(decode_s=0.02, pass_s=0.02, token_s=0.0009)
PAUSE_TOKENS = SPEEDS.tokens_within(PAUSE_STEPS * SPEEDS.decode_s)


@dataclass
class Request:
    """A prompt to read, then so many tokens to write."""

    n_tokens: int
    n_answer: int = 1
    session: str = ""
    at_step: int = 0
    n_read: int = 0
    n_written: int = 0
    first_step: int = 0
    """The step in which its first token was drawn."""


class Simulation:
    """Steps of an engine that does what it is told, in a time that follows from the speeds."""

    def __init__(self, *requests: Request, speeds: Speeds = SPEEDS, budget_tokens: int = 0) -> None:
        self.requests = requests
        self.planner = StepPlanner(CHUNK, budget_tokens)
        self.speeds = speeds
        self.n_steps = 0
        self.now_s = 0.0
        self.passes: list[dict[int, int]] = []
        """Of each step: what was read of whom."""
        self.waiting: list[set[str]] = []

    def owner(self, n: int) -> str:
        """A request without a session is on its own."""
        return self.requests[n].session or f"#{n}"

    def step(self) -> None:
        """One step."""
        self.n_steps += 1
        here = {n: r for n, r in enumerate(self.requests) if r.at_step < self.n_steps}
        reading = {n: r for n, r in here.items() if r.n_read < r.n_tokens}
        decoding = [r for n, r in here.items() if n not in reading and r.n_written < r.n_answer]
        readings = [
            Reading(n, r.n_tokens - r.n_read, self.owner(n), r.n_read > 0)
            for n, r in reading.items()
        ]
        is_fresh = any(each.n_written <= FRESH_TOKENS for each in decoding)
        reads = self.planner.plan(readings, len(decoding), self.speeds, is_fresh=is_fresh)
        assert len(reads) <= 1
        assert reads or decoding or not reading
        for each in decoding:
            each.n_written += 1
            each.first_step = each.first_step or self.n_steps
        self.now_s += self.speeds.decode_s * bool(decoding)
        self.waiting.append({each.session for each in readings})
        self.passes.append({})
        for read in reads:
            assert len(read.uids) == 1 or all(not self.requests[n].n_read for n in read.uids)
            assert len(read.uids) * read.n_tokens <= CHUNK
            self.now_s += self.speeds.pass_over_s(len(read.uids) * read.n_tokens)
            for n in read.uids:
                part = min(read.n_tokens, reading[n].n_tokens - reading[n].n_read)
                reading[n].n_read += part
                self.passes[-1][n] = part

    def run(self, n_steps: int) -> Simulation:
        """So many steps."""
        for _ in range(n_steps):
            self.step()
        return self

    def until_done(self, *which: int, most: int = 20_000) -> int:
        """Steps until these have been written."""
        while any(self.requests[n].n_written < self.requests[n].n_answer for n in which):
            self.step()
            assert self.n_steps < most
        return self.n_steps


def test_a_lone_prompt_is_read_in_whole_chunks() -> None:
    """However often one came before: nothing is lost."""
    planner = StepPlanner(CHUNK)
    for start in range(3):
        sizes = []
        for left in range(20_000, 0, -CHUNK):
            (read,) = planner.plan([Reading(start, left, "a", left < 20_000)], 0, SPEEDS)
            sizes.append(read.n_tokens)
        assert sizes == [CHUNK] * 39 + [20_000 % CHUNK]
        for _ in range(100):
            assert planner.plan([], 1, SPEEDS) == []


@pytest.mark.parametrize(
    ("token_s", "n_tokens"), [(0.0001, CHUNK), (0.002, 240), (0.006, CHUNK // LONE_SHARE)]
)
def test_a_lone_prompt_on_a_slow_machine_is_read_in_shorter_passes(
    token_s: float, n_tokens: int
) -> None:
    """The next request waits for one of them; below a part of a chunk they would cost more."""
    speeds = Speeds(decode_s=0.02, pass_s=0.02, token_s=token_s)
    (read,) = StepPlanner(CHUNK).plan([Reading(1, 20_000, "a", False)], 0, speeds)
    assert read.n_tokens == n_tokens


@pytest.mark.parametrize("budget_tokens", [0, 64])
@pytest.mark.parametrize("n_long", [1, 2, 16])
def test_twenty_new_tokens_are_read_in_the_next_step(n_long: int, budget_tokens: int) -> None:
    """Behind any number of long prompts: the first token is drawn in the second step."""
    long = [Request(20_000, session=f"s{n}") for n in range(n_long)]
    short = Request(20, n_answer=8, session="t", at_step=30)
    simulation = Simulation(*long, short, budget_tokens=budget_tokens)
    simulation.until_done(n_long)
    assert short.first_step - short.at_step <= 2


def test_short_requests_one_after_another_take_less_than_twice_their_time() -> None:
    """Beside long prompts, with what is read between their tokens, but for the very first."""
    alone = Simulation(Request(20, 8))
    alone.until_done(0)
    simulation = Simulation(*(Request(200_000, session=f"s{n}") for n in range(3)))
    simulation.run(5)
    times = []
    for n in range(12):
        simulation.requests = (*simulation.requests, Request(20, 8, at_step=simulation.n_steps))
        began_s = simulation.now_s
        simulation.until_done(3 + n)
        times.append(simulation.now_s - began_s)
        # The next one comes in the middle of a pass.
        simulation.step()
        times[-1] += SPEEDS.pass_over_s(PAUSE_TOKENS) / 2
    assert max(times) < 2 * alone.now_s


def test_what_is_written_keeps_its_pace() -> None:
    """Beside a long prompt, reading takes its share of the time and no more; it goes on too."""
    long, writing = Request(50_000), Request(1, n_answer=500)
    simulation = Simulation(long, writing)
    simulation.until_done(1)
    plain_s = 500 * SPEEDS.decode_s
    assert simulation.now_s < (1 + PREFILL_SHARE) * plain_s + SPEEDS.pass_over_s(CHUNK)
    assert long.n_read > 500 / 7 * PAUSE_TOKENS


def test_an_answer_that_has_just_begun_is_held_up_less() -> None:
    """Its first tokens come at once, and the long prompt is read meanwhile too."""
    long, writing = Request(50_000), Request(1, n_answer=500)
    simulation = Simulation(long, writing)
    simulation.until_done(1)
    at = writing.first_step
    first, later = (
        sum(0 in each for each in simulation.passes[n : n + FRESH_TOKENS]) for n in (at, at + 100)
    )
    assert 1 <= first <= later / 2


def test_no_pass_beside_others_is_long() -> None:
    """Whoever comes waits for one of them at most."""
    long, writing = Request(50_000), Request(1, n_answer=500)
    simulation = Simulation(long, writing)
    simulation.until_done(1)
    assert {max(each.values()) for each in simulation.passes[2:] if each} == {PAUSE_TOKENS}
    assert SPEEDS.pass_over_s(PAUSE_TOKENS) <= PAUSE_STEPS * SPEEDS.decode_s


def test_a_set_budget_bounds_every_pass_beside_others() -> None:
    """And every step reads that much, whatever the speed."""
    long, writing = Request(5_000), Request(1, n_answer=40)
    simulation = Simulation(long, writing, budget_tokens=100)
    simulation.until_done(1)
    assert long.n_read == 40 * 100


@pytest.mark.parametrize("n_long", [1, 3])
def test_long_prompts_get_on_beside_a_flood_of_short_ones(n_long: int) -> None:
    """Each has a pass in a bounded number of steps, though new ones come in every step."""
    flood = [Request(100, 3, at_step=n) for n in range(600)]
    long = [Request(3_000) for _ in range(n_long)]
    simulation = Simulation(*long, *flood).run(600)
    for n in range(n_long):
        steps = [0, *(step for step, each in enumerate(simulation.passes) if n in each)]
        assert len(steps) > 3
        gaps = [after - before for before, after in zip(steps, steps[1:], strict=False)]
        assert max(gaps) <= n_long * EVERY * AGE_STEPS


def test_a_prompt_of_medium_length_does_not_hold_up_a_short_one() -> None:
    """If another is on its way, it is read in parts, though nothing is written yet."""
    planner = StepPlanner(CHUNK)
    (read,) = planner.plan([Reading(1, 400, "a", False)], 0, SPEEDS, expects=True)
    assert read.n_tokens == PAUSE_TOKENS
    (read,) = planner.plan(
        [Reading(1, 400 - PAUSE_TOKENS, "a", True), Reading(2, 20, "b", False)], 0, SPEEDS
    )
    assert (read.uids, read.n_tokens) == ((2,), 20)


def test_short_prompts_that_come_together_share_a_pass() -> None:
    """Eight prompts of the same size are one pass, if nothing is written."""
    simulation = Simulation(*(Request(40, 8) for _ in range(8))).run(1)
    assert len(simulation.passes[0]) == 8


SLOW = Speeds(decode_s=0.03, pass_s=0.03, token_s=0.004)
"""A processor without a GPU."""


def test_prompts_that_come_together_share_a_pass_on_a_slow_machine() -> None:
    """Nothing else is there that would gain by small passes."""
    simulation = Simulation(*(Request(124, 8) for _ in range(8)), speeds=SLOW).run(1)
    assert len(simulation.passes[0]) == CHUNK // 124


@pytest.mark.parametrize("speeds", [SPEEDS, SLOW])
def test_a_short_prompt_is_not_padded_to_a_longer_one(speeds: Speeds) -> None:
    """It would wait for what is read of the other."""
    planner = StepPlanner(CHUNK)
    readings = [Reading(1, 150, "a", False), Reading(2, 8, "b", False)]
    assert [read.uids for read in planner.plan(readings, 0, speeds)] == [(2,)]


@pytest.mark.parametrize("n_beside", [120, 250, 1_700])
def test_a_short_answer_beside_a_prompt_takes_less_than_twice_its_time(n_beside: int) -> None:
    """The wait for the pass that has begun included, on a slow machine."""
    alone = Simulation(Request(2, 8), speeds=SLOW)
    alone.until_done(0)
    simulation = Simulation(Request(n_beside), speeds=SLOW)
    simulation.planner.plan([Reading(9, 1, "c", False)], 1, SLOW)
    simulation.step()
    simulation.requests = (*simulation.requests, Request(2, 8))
    simulation.until_done(1)
    assert simulation.now_s < 2 * alone.now_s


REQUESTS = st.lists(
    st.builds(
        Request,
        n_tokens=st.one_of(st.integers(1, 600), st.integers(1, 9_000)),
        n_answer=st.integers(1, 60),
        session=st.sampled_from(["", "a", "b", "c"]),
        at_step=st.integers(0, 80),
    ),
    min_size=1,
    max_size=8,
)
ANY_SPEEDS = st.builds(
    Speeds,
    decode_s=st.floats(0.001, 0.1),
    pass_s=st.floats(0.001, 0.1),
    token_s=st.floats(1e-6, 0.1),
)


@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, speeds=ANY_SPEEDS, budget_tokens=st.sampled_from([0, 1, 50, 10_000]))
def test_everything_is_read_and_written(
    requests: list[Request], speeds: Speeds, budget_tokens: int
) -> None:
    """Whatever comes, at whatever speed; nothing is read twice."""
    asked = [replace(each) for each in requests]
    simulation = Simulation(*asked, speeds=speeds, budget_tokens=budget_tokens)
    simulation.until_done(*range(len(asked)), most=200_000)
    total = Counter[int]()
    for each in simulation.passes:
        total.update(each)
    assert dict(total) == {n: each.n_tokens for n, each in enumerate(asked)}


def above_shares(simulation: Simulation, start: int) -> Counter[str]:
    """What sessions got of `WINDOW_STEPS` steps above their shares, while others waited too.

    A share is what a session would have if each pass were divided among all that wait.
    """
    found = Counter[str]()
    for waiting, read in list(zip(simulation.waiting, simulation.passes, strict=True))[start:][
        :WINDOW_STEPS
    ]:
        if len(waiting) > 1:
            for n, n_tokens in read.items():
                found[simulation.owner(n)] += n_tokens
            for each in waiting:
                found[each] -= sum(read.values()) / len(waiting)  # type: ignore[assignment]
    return found


ARRIVING = st.builds(
    Request,
    n_tokens=st.one_of(st.integers(1, 64), st.integers(1, 600), st.integers(1, 20_000)),
    n_answer=st.sampled_from([1, 5, 400]),
    session=st.sampled_from(["", "a", "b", "c", "d"]),
    at_step=st.integers(0, 200),
)


@settings(max_examples=60, deadline=None)
@example(
    requests=[Request(49, 1, "a"), Request(1678, 1, "a"), Request(1678, 1, "b")],
    speeds=SPEEDS,
    budget_tokens=0,
)
@given(
    requests=st.lists(ARRIVING, min_size=2, max_size=14),
    speeds=ANY_SPEEDS,
    budget_tokens=st.sampled_from([0, 64, 512]),
)
def test_no_session_gets_more_than_its_share_and_a_chunk(
    requests: list[Request], speeds: Speeds, budget_tokens: int
) -> None:
    """Over any `WINDOW_STEPS` steps, whoever comes and goes meanwhile."""
    asked = [replace(each) for each in requests]
    simulation = Simulation(*asked, speeds=speeds, budget_tokens=budget_tokens).run(400)
    for start in range(0, 400 - WINDOW_STEPS, 4):
        assert max(above_shares(simulation, start).values(), default=0) <= CHUNK


@pytest.mark.parametrize("n_small", [1, 4])
def test_small_requests_are_not_behind_a_prompt_of_60_000(n_small: int) -> None:
    """Titles and summaries, of the same session too: each is drawn in the second step."""
    long = Request(60_000, session="a")
    small = [Request(400, 30, "a", at_step=20 + 40 * n) for n in range(n_small)]
    simulation = Simulation(long, *small)
    simulation.until_done(*range(1, n_small + 1))
    assert max(each.first_step - each.at_step for each in small) <= 2 + 400 // PAUSE_TOKENS
    assert long.n_read < 60_000 / 4
