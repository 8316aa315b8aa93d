"""The engine thread, on the echo engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    ModelInfo,
    Progress,
    Reads,
    Sampled,
    SamplingParams,
    SequenceSpec,
    Step,
)
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.backends.local.scheduler.sequence import Done, Piece, Sequence, Waiting
from mlxdeck.server.errors import EngineFailed, Overloaded
from tests.server.http import until


@asynccontextmanager
async def running(
    engine: EchoEngine, *, max_batch: int = 4, max_waiting: int = 8, ping_s: float = 5.0
) -> AsyncIterator[Scheduler]:
    """A scheduler whose engine is loaded."""
    scheduler = Scheduler(
        engine,
        max_batch=max_batch,
        max_waiting=max_waiting,
        prefill_chunk_tokens=64,
        ping_s=ping_s,
        stall_s=60,
    )
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    try:
        yield scheduler
    finally:
        await scheduler.stop()


def job(prompt: str, kept: list[KVState] | None = None, max_tokens: int = 100) -> Sequence:
    """A job for a prompt whose answer is the prompt's user turn."""
    tokens = [byte + 1 for byte in f"<user>{prompt}</user><assistant>".encode()]
    states = kept if kept is not None else []
    return Sequence(SequenceSpec(tokens, 0, None, max_tokens, SamplingParams()), states.append)


async def answer(scheduler: Scheduler, work: Sequence) -> tuple[str, str]:
    """The whole text of a job, and why it ended."""
    text = ""
    async with scheduler.submit(work) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, Piece):
                text += chunk.text
            if isinstance(chunk, Done):
                return text, chunk.reason
    raise AssertionError("no Done")


async def test_an_answer_arrives_whole_and_ends_once() -> None:
    """Every piece arrives in order, and Done is the last chunk."""
    async with running(EchoEngine()) as scheduler:
        assert await answer(scheduler, job("hello")) == ("hello", "stop")


@pytest.mark.parametrize("n_turns", range(5))
async def test_a_client_that_leaves_as_a_chunk_arrives_has_left(n_turns: int) -> None:
    """However many turns of the loop lie between them: its job is not followed any further."""
    async with running(EchoEngine(lambda _: "x" * 50_000, step_s=0.001)) as scheduler:
        work = job("hello", max_tokens=50_000)
        following = asyncio.create_task(answer(scheduler, work))
        await until(lambda: work.n_prefilled)
        work.chunks.put_nowait(Piece("y", 1))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait({following}, timeout=5)
        assert following.cancelled()
        await until(lambda: not scheduler.status.active)


async def test_many_jobs_share_the_engine() -> None:
    """More jobs than fit in a batch all get their own answer."""
    async with running(EchoEngine(), max_batch=2) as scheduler:
        jobs = [job(f"text {i}") for i in range(8)]
        answers = await asyncio.gather(*(answer(scheduler, each) for each in jobs))
        assert answers == [(f"text {i}", "stop") for i in range(8)]
        assert scheduler.status.output_tokens == sum(each.work.n_tokens for each in jobs)


async def test_the_token_limit_ends_an_answer() -> None:
    """An answer that reaches max_tokens ends by its length."""
    async with running(EchoEngine()) as scheduler:
        assert await answer(scheduler, job("abcdef", max_tokens=3)) == ("abc", "length")


async def test_a_full_queue_refuses_at_once() -> None:
    """One more than may wait is Overloaded and says when to come back."""
    async with (
        running(EchoEngine(step_s=0.02), max_batch=1, max_waiting=1) as scheduler,
        scheduler.submit(job("a" * 50)) as first,
    ):
        await anext(first)
        async with scheduler.submit(job("b")):
            await until(lambda: scheduler.status.queued == 1)
            with pytest.raises(Overloaded) as refused:
                async with scheduler.submit(job("c")):
                    pass
            assert int(refused.value.headers["retry-after"]) > 0


async def test_leaving_cancels_while_generating_and_keeps_the_state() -> None:
    """A job whose block is left stops; what it computed is kept for the next one."""
    kept: list[KVState] = []
    async with running(EchoEngine(step_s=0.005)) as scheduler:
        work = job("x" * 200, kept, max_tokens=500)
        async with scheduler.submit(work) as chunks:
            await anext(chunks)
        await until(lambda: scheduler.status.active == 0)
        assert len(kept) == 1
        assert list(kept[0].tokens)[: len(work.run.tokens)] == list(work.run.tokens)
        assert len(kept[0].tokens) < 2 * 200


async def test_leaving_cancels_during_prefill_and_keeps_the_part() -> None:
    """A client that leaves in the middle of prefill frees the slot; the partial state is kept."""
    kept: list[KVState] = []
    engine = EchoEngine(step_s=0.01, prefill_chunk_tokens=4)
    async with running(engine) as scheduler:
        work = job("y" * 400, kept)
        async with scheduler.submit(work):
            await until(lambda: work.n_prefilled > 0)
        await until(lambda: scheduler.status.active == 0)
        assert 0 < len(kept[0].tokens) < len(work.run.tokens)


async def test_leaving_before_anything_is_read_still_cancels() -> None:
    """A job nobody ever iterates over is cancelled as well."""
    async with running(EchoEngine(step_s=0.01)) as scheduler:
        async with scheduler.submit(job("z" * 300)):
            pass
        await until(lambda: scheduler.status.active == 0 and scheduler.status.queued == 0)


async def test_silence_is_told_apart_from_a_dead_engine() -> None:
    """While the engine works but says nothing, Waiting comes at the ping interval."""
    engine = EchoEngine(step_s=0.2)
    async with (
        running(engine, ping_s=0.05) as scheduler,
        scheduler.submit(job("slow")) as chunks,
    ):
        assert isinstance(await anext(chunks), Waiting)


class FaultyEngine(EchoEngine):
    """Fails in the step after `fail_next` is set."""

    fail_next = False
    n_resets = 0

    def step(self, reads: Reads = None) -> list[Step]:
        if self.fail_next and self._running:
            self.fail_next = False
            raise EngineFailed("the model failed: boom")
        return super().step(reads)

    def reset(self) -> None:
        self.n_resets += 1
        super().reset()


async def test_a_fault_fails_the_running_jobs_and_serving_goes_on() -> None:
    """After a failed step every running job gets the error, and the next job its answer."""
    engine = FaultyEngine(step_s=0.002)
    async with running(engine) as scheduler:
        engine.fail_next = True
        results = await asyncio.gather(
            *(answer(scheduler, job("abc")) for _ in range(3)), return_exceptions=True
        )
        assert any(isinstance(result, EngineFailed) for result in results)
        await until(lambda: engine.n_resets == 1)
        await until(lambda: scheduler.healthy)
        assert await answer(scheduler, job("again")) == ("again", "stop")


async def test_a_fault_while_cancelling_is_survived_too() -> None:
    """An engine that fails as a job is taken out is rebuilt, and serves the next one."""

    class Clumsy(FaultyEngine):
        def remove(self, uid: int) -> KVState | None:
            if not self.n_resets:
                raise EngineFailed("the model failed: gone")
            return super().remove(uid)

    engine = Clumsy(step_s=0.005)
    async with running(engine) as scheduler:
        async with scheduler.submit(job("v" * 300)) as chunks:
            await anext(chunks)
        await until(lambda: engine.n_resets == 1)
        await until(lambda: scheduler.healthy)
        assert await answer(scheduler, job("after")) == ("after", "stop")


class StuckEngine(EchoEngine):
    """Never comes back from a step until it is released."""

    released = False

    def step(self, reads: Reads = None) -> list[Step]:
        while self._running and not self.released:
            time.sleep(0.01)
        return super().step(reads)


async def test_an_engine_that_hangs_is_given_up() -> None:
    """Without any progress for the stall limit, the job fails and the server is unhealthy."""
    engine = StuckEngine()
    scheduler = Scheduler(
        engine, max_batch=1, max_waiting=1, prefill_chunk_tokens=64, ping_s=0.05, stall_s=0.3
    )
    scheduler.start(lambda _: None, lambda _: None)
    await scheduler.ready
    with pytest.raises(EngineFailed, match="no progress"):
        await answer(scheduler, job("stuck"))
    assert not scheduler.healthy
    engine.released = True
    await scheduler.stop()


class UnloadableEngine(EchoEngine):
    """Can't be loaded."""

    def load(self, progress: Progress) -> ModelInfo:
        raise EngineFailed("cannot load")


async def test_a_model_that_cannot_be_loaded_fails_what_comes() -> None:
    """`ready` raises, and so does every job after it."""
    scheduler = Scheduler(
        UnloadableEngine(), max_batch=1, max_waiting=1, prefill_chunk_tokens=64, ping_s=1, stall_s=1
    )
    scheduler.start(lambda _: None, lambda _: None)
    with pytest.raises(EngineFailed, match="cannot load"):
        await scheduler.ready
    with pytest.raises(EngineFailed, match="cannot load"):
        await answer(scheduler, job("no"))


async def test_stopping_ends_what_still_runs() -> None:
    """A job that runs when the server stops gets an error, not silence."""
    async with running(EchoEngine(step_s=0.01)) as scheduler:
        task = asyncio.create_task(answer(scheduler, job("w" * 300, max_tokens=1000)))
        await until(lambda: scheduler.status.active == 1)
    with pytest.raises(EngineFailed, match="stopp"):
        await task


async def test_short_prompts_are_read_together_and_long_ones_in_turn() -> None:
    """A step never computes more than a chunk, padding included."""
    together: list[int] = []

    class Watching(EchoEngine):
        def step(self, reads: Reads = None) -> list[Step]:
            for each in reads or ():
                assert len(each.uids) * each.n_tokens <= 64
                together.append(len(each.uids))
            return super().step(reads)

    engine = Watching(step_s=0.002, prefill_chunk_tokens=64)
    async with running(engine, max_batch=16, max_waiting=16) as scheduler:
        texts = ["s"] * 4 + ["l" * 300] * 3 + ["t"] * 3
        answers = await asyncio.gather(*(answer(scheduler, job(t, max_tokens=400)) for t in texts))
        assert [text for text, _ in answers] == texts
    assert max(together) > 1


async def test_twenty_new_tokens_do_not_wait_for_two_long_prompts() -> None:
    """Nor if these have all places; they are drawn in the second step."""
    engine = EchoEngine(step_s=0.001, prefill_chunk_tokens=64)
    async with running(engine, max_batch=4, max_waiting=16) as scheduler:
        long = [asyncio.create_task(answer(scheduler, job("l" * 9_000))) for _ in range(6)]
        await until(lambda: scheduler.status.active == 4)
        short = job("a", max_tokens=1)
        assert await answer(scheduler, short) == ("a", "length")
        assert scheduler.status.active == 4
        assert not any(each.done() for each in long)
        for each in long:
            each.cancel()


class LettingGo(EchoEngine):
    """Breaks the third token of an answer in which there is an `x`."""

    def step(self, reads: Reads = None) -> list[Step]:
        """As the echo, but for that."""
        found: list[Step] = []
        for each in super().step(reads):
            if isinstance(each, Sampled) and each.text == "x":
                self.remove(each.uid)
                each = Sampled(each.uid, "", "broken", why="not of the grammar")
            found.append(each)
        return found


async def test_an_answer_that_leaves_its_grammar_fails_alone() -> None:
    """Its client is told, the others of its batch go on."""
    async with running(LettingGo()) as scheduler:
        bad, good = job("abxy"), job("hello there")
        told, other = await asyncio.gather(
            answer(scheduler, bad), answer(scheduler, good), return_exceptions=True
        )
        assert isinstance(told, EngineFailed) and "not of the grammar" in told.message
        assert other == ("hello there", "stop")
        assert bad.work.let_go == "not of the grammar" and not good.work.let_go
        assert await answer(scheduler, job("again")) == ("again", "stop")
