"""Plan, admission and engine thread together, whatever comes, leaves and fails."""

from __future__ import annotations

import random
from collections.abc import Sequence as TokenSequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlxdeck.server.backends.local.engine import kv_cost
from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Room,
    SamplingParams,
    SequenceSpec,
    State,
)
from mlxdeck.server.backends.local.engine.echo import EchoEngine, echo
from mlxdeck.server.backends.local.scheduler import batching, engine_thread, kv_budget
from mlxdeck.server.backends.local.scheduler.admission import EXTRA_SHARE, EXTRA_TOKENS
from mlxdeck.server.backends.local.scheduler.commands import Run
from mlxdeck.server.backends.local.scheduler.engine_thread import EngineThread
from mlxdeck.server.backends.local.scheduler.sequence import Done, Sequence
from tests.server.backends.local.faults import faulty
from tests.server.backends.local.scheduler.test_admission import COST, Small
from tests.server.backends.local.scheduler.turns import Turns

CHUNK, MAX_BATCH = 64, 4
LONG, SHORT = 20_000, 20


@pytest.mark.parametrize("n_long", [2, 6])
def test_twenty_new_tokens_wait_two_steps_behind_two_long_prompts(n_long: int) -> None:
    """On the echo engine, also if all places are taken; wherever the long ones are."""
    for n_before in (1, 2, 3, 7, 40):
        turns = Turns(EchoEngine(prefill_chunk_tokens=CHUNK), max_batch=4, chunk_tokens=CHUNK)
        for n in range(n_long):
            turns.enter([2] * LONG, 5, session=f"s{n}")
        for _ in range(n_before):
            turns.turn()
        assert turns.until_drawn(turns.enter([3] * SHORT, 5)) <= 2


def test_an_extra_place_is_given_up_for_the_next_short_request() -> None:
    """By whoever has written enough in it; the answer goes on in the next place that is left."""
    engine = EchoEngine(prefill_chunk_tokens=CHUNK)
    turns = Turns(engine, max_batch=MAX_BATCH, chunk_tokens=CHUNK)
    engine.reply = lambda prompt: f"{echo(prompt)} " * 400

    def ask(name: str, max_tokens: int) -> Sequence:
        prompt = f"<user>{name}</user><assistant>"
        return turns.enter([byte + 1 for byte in prompt.encode()], max_tokens, session=name)

    regular = [ask(f"r{n}", 1_000) for n in range(MAX_BATCH)]
    turns.until_drawn(regular[-1])
    first = ask("one", 1_000)
    assert turns.until_drawn(first) <= 2 and first.is_extra
    second = ask("two", 10)
    assert turns.until_drawn(second) <= EXTRA_TOKENS + 2
    assert first.work.state[0] == "wait" and first.work.n_tokens == EXTRA_TOKENS
    while not all(turns.is_done(each) for each in (first, second, *regular)):
        turns.turn()
        assert len(turns.worker.running) <= MAX_BATCH + MAX_BATCH // EXTRA_SHARE
    assert turns.text(first) == ("one " * 400)[:1_000]


@pytest.mark.model
def test_twenty_new_tokens_wait_two_steps_with_a_model(tmp_path: Path) -> None:
    """A llama with a window of 65,536 tokens, as fast as it is."""
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
    from tests.zoo.models import small_smollm2

    folder = small_smollm2(tmp_path / "small", max_position_embeddings=65_536)
    engine = MlxEngine(str(folder), tmp_path, prefill_chunk_tokens=512)
    turns = Turns(engine, max_batch=4, chunk_tokens=512)
    chance = random.Random(3)

    def tokens(n: int) -> list[int]:
        return [chance.randrange(5, 3_000) for _ in range(n)]

    try:
        assert engine.load(lambda _: None).context_tokens == 65_536
        long = [turns.enter(tokens(LONG), 5, session=f"s{n}") for n in range(2)]
        for _ in range(3):
            turns.turn()
            short = turns.enter(tokens(SHORT), 3)
            assert turns.until_drawn(short) <= 2
            while not turns.is_done(short):
                turns.turn()
        assert all(job.left_tokens > 0 for job in long)
    finally:
        turns.worker.close()


class Faults(RuleBasedStateMachine):
    """Requests that come and leave, with little memory, and an engine that fails now and then."""

    @initialize(whole=st.integers(500, 4_000))
    def begin(self, whole: int) -> None:
        """A device of some size."""
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(engine_thread, "REBUILD_AFTER_S", (0.0,) * 3)
        # So that answers get longer than that.
        self.patches.setattr(kv_budget, "EXPECTED_ANSWER_TOKENS", 64)
        self.patches.setattr(kv_budget, "NEAR_TOKENS", 64)
        self.patches.setattr(batching, "EXTRA_TOKENS", 16)
        self.small = Small(lambda prompt: 3 * echo(prompt), prefill_chunk_tokens=CHUNK)
        self.small.whole_bytes = COST.bytes_of(whole) + COST.bytes_of(whole // 2)
        self.engine, self.plan = faulty(self.small)
        self.turns = Turns(self.engine, max_batch=MAX_BATCH, chunk_tokens=CHUNK)
        self.turns.worker.room.give_way = self.small.give_way
        self.open: list[Sequence] = []
        self.states: dict[bytes, KVState] = {}
        self.commands: list[str] = []
        """How each of them ended."""
        self.n_commands = 0
        self.is_blind = False
        """Whether the engine could not say what room there is."""

    def keep(self, kept: KVState) -> None:
        """As a cache does; it takes what room there is."""
        self.states[bytes(kept.tokens)] = kept
        self.small.cached_bytes = max(0, self.small.whole_bytes - self.small.held_bytes) // 2

    def lease(self, tokens: TokenSequence[int]) -> tuple[int, State]:
        """Sometimes it has been evicted meanwhile."""
        known = self.states.get(bytes(tokens))
        if known is None or len(tokens) % 3 == 0:
            return 0, None
        return len(tokens) - 1, known.state[:-1]

    @rule(
        size=st.sampled_from([1, 30, 200, 450]),
        max_tokens=st.sampled_from([1, 20, 5_000]),
        session=st.sampled_from(["", "a", "b"]),
        letter=st.sampled_from("xyz"),
    )
    def enter(self, size: int, max_tokens: int, session: str, letter: str) -> None:
        """Another request; its answer is three times as long as its prompt."""
        prompt = f"<user>{letter * size}</user><assistant>"
        tokens = [byte + 1 for byte in prompt.encode()]
        run = SequenceSpec(tokens, 0, None, max_tokens, SamplingParams())
        job = Sequence(run, self.keep, session=session, lease=self.lease)
        job.work.times.submitted_s = float(len(self.turns.told) + 1)
        self.turns.put(job)
        self.open.append(job)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A client leaves, wherever its request is."""
        job = data.draw(st.sampled_from(self.open))
        self.open.remove(job)
        self.turns.leave(job)

    @rule(
        site=st.sampled_from(
            ["insert", "step", "remove", "room", "memory", "reset", "unload", "reload"]
        ),
        n_before=st.integers(0, 9),
        late=st.booleans(),
    )
    def fail(self, site: str, n_before: int, *, late: bool) -> None:
        """One of the next calls will fail."""
        self.plan.arm(site, n_before=n_before, late=late)
        self.is_blind = self.is_blind or site == "room"

    @rule(agree=st.booleans())
    def unload(self, *, agree: bool) -> None:
        """The model is freed if nobody asks it; who comes then has it loaded again."""
        self.n_commands += 1
        work = partial(self.turns.worker.unload, lambda: agree)
        self.turns.worker.inbox.put(Run(work, self.commands.append))

    @rule(n=st.integers(1, 60))
    def go_on(self, n: int) -> None:
        """Some steps."""
        for _ in range(n):
            self.turns.turn()

    @invariant()
    def everybody_is_told_once_and_rightly(self) -> None:
        """One end at most, and only what belongs to the own answer."""
        for job, told in self.turns.told.items() if hasattr(self, "turns") else ():
            ends, text = self.turns.ends(job), self.turns.text(job)
            answer = 3 * echo(bytes(token - 1 for token in job.run.tokens).decode())
            assert answer.startswith(text), told
            if ends and isinstance(ends[0], Done) and ends[0].reason == "stop":
                assert text == answer
            assert len(text) <= job.run.max_tokens

    @invariant()
    def an_idle_engine_holds_nothing(self) -> None:
        """Nor does it wait for anybody."""
        worker = self.turns.worker if hasattr(self, "turns") else None
        if worker is not None and worker.inbox.empty() and not worker.busy:
            assert not (self.small._running or worker._open)
            assert len(self.commands) == self.n_commands

    @invariant()
    def no_limit_is_passed(self) -> None:
        """Neither of places nor of memory, as far as the engine could tell what there is."""
        if not hasattr(self, "turns"):
            return
        assert len(self.turns.worker.running) <= MAX_BATCH + MAX_BATCH // EXTRA_SHARE
        if not self.is_blind:
            assert self.small.most_held_bytes <= self.small.whole_bytes

    def teardown(self) -> None:
        """Without further faults, all that are still there get their answers."""
        if not hasattr(self, "turns"):
            return
        self.plan.disarm()
        # One after the other at worst, as there may be room for a single one.
        for _ in range(50_000):
            self.turns.turn()
            if not self.turns.worker.busy:
                break
        assert all(len(self.turns.ends(job)) == 1 for job in self.open)
        worker = self.turns.worker
        assert not (worker.running or worker._waiting or worker._open)
        self.turns.turn()
        self.patches.undo()
        assert not self.small._running


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


class Tight:
    """What a model's engine is given beside: little memory, a cache of states, and a count."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.states: dict[tuple[int, ...], KVState] = {}
        self.limit_bytes = self.n_again = 0
        insert = engine.insert

        def inserted(run: SequenceSpec) -> int:
            self.n_again += bool(run.n_written)
            return int(insert(run))

        engine.insert, engine.room = inserted, self.room

    @property
    def held_bytes(self) -> int:
        """Of batches, padding included, and of kept states."""
        batch = self.engine._batch
        caches = [each.batch.prompt_cache for each in batch.prompts.values() if each.batch]
        caches += [group.prompt_cache for group in batch.groups]
        caches += [kept.state for kept in self.states.values()]
        return sum(int(layer.nbytes) for each in caches for layer in each)

    def room(self) -> Room:
        """What is not held."""
        return Room(max(0, self.limit_bytes - self.held_bytes), self.limit_bytes)

    def give_way(self, n_bytes: int) -> int:
        """Drops the oldest states."""
        before = self.held_bytes
        while before - self.held_bytes < n_bytes and self.states:
            del self.states[next(iter(self.states))]
        return before - self.held_bytes

    def keep(self, kept: KVState) -> None:
        """Takes a state."""
        self.states[tuple(kept.tokens)] = kept

    def lease(self, tokens: TokenSequence[int]) -> tuple[int, State]:
        """Finds it."""
        known = self.states.get(tuple(tokens))
        if known is None:
            return 0, None
        return len(tokens) - 1, self.engine.states.copy(known.state, 1)

    def texts(self, prompts: list[list[int]], limit_bytes: int, max_tokens: int = 220) -> list[str]:
        """Their answers."""
        self.limit_bytes, self.n_again = limit_bytes, 0
        self.states.clear()
        turns = Turns(self.engine, max_batch=MAX_BATCH, chunk_tokens=CHUNK)
        turns.worker.room.give_way = self.give_way
        jobs = []
        for n, prompt in enumerate(prompts, 1):
            run = SequenceSpec(prompt, 0, None, 220, SamplingParams())
            jobs.append(Sequence(run, self.keep, lease=self.lease))
            jobs[-1].work.times.submitted_s = float(n)
            turns.put(jobs[-1])
        while not all(turns.is_done(each) for each in jobs):
            turns.turn()
        return [turns.text(each) for each in jobs]


@pytest.mark.model
def test_a_model_says_the_same_where_rows_lose_their_places(
    small_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of memory, by the bytes of real caches; states that gave way are computed anew."""
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine

    monkeypatch.setattr(kv_budget, "EXPECTED_ANSWER_TOKENS", 32)
    monkeypatch.setattr(kv_budget, "NEAR_TOKENS", 64)
    # Of two layers, the copy would be as large as all that is held.
    monkeypatch.setattr(kv_cost, "COPIED_LAYERS", 0)
    engine = MlxEngine(small_model, Path(small_model).parent, prefill_chunk_tokens=CHUNK)
    tight = Tight(engine)
    chance = random.Random(4)
    prompts = [[chance.randrange(5, 3_000) for _ in range(n)] for n in (90, 200, 60)]
    try:
        cost = engine.load(lambda _: None).kv_cost
        said = tight.texts(prompts, cost.bytes_of(100_000))
        assert not tight.n_again
        assert tight.texts(prompts, cost.bytes_of(740)) == said
        assert tight.n_again
    finally:
        engine.close()


def test_a_place_that_is_lost_at_any_moment_loses_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first pass, while a prompt is read again, and behind every token."""
    make_room, chance, lost = EngineThread._make_room, random.Random(9), set[tuple[int, int]]()

    def lose(worker: EngineThread) -> None:
        make_room(worker)
        if worker.running and chance.random() < 0.5:
            job = chance.choice(list(worker.running.values()))
            lost.add((job.work.n_tokens, job.n_prefilled))
            worker._make_wait(job)

    monkeypatch.setattr(EngineThread, "_make_room", lose)
    engine = EchoEngine(prefill_chunk_tokens=CHUNK)
    turns = Turns(engine, max_batch=MAX_BATCH, chunk_tokens=CHUNK)
    texts = [letter * n for letter, n in (("x", 20), ("y", 90), ("z", 200))]
    prompts = [f"<user>{each}</user><assistant>".encode() for each in texts]
    jobs = [turns.enter([byte + 1 for byte in each], 40) for each in prompts]
    for _ in range(5_000):
        turns.turn()
        if all(turns.ends(each) for each in jobs):
            break
    assert [turns.text(each) for each in jobs] == [each[:40] for each in texts]
    assert len(lost) > 40
