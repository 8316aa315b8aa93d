"""Work that ends once nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from mlxdeck.server.checkpoints import Abandoned, Workers, checkpoint, run_until


def test_work_goes_on_while_somebody_waits() -> None:
    """Also where nobody said who."""
    checkpoint()

    def work() -> str:
        checkpoint()
        return "done"

    assert run_until(threading.Event(), work) == "done"


def test_work_ends_at_its_next_checkpoint() -> None:
    """And is not begun at all if nobody waits by then."""
    given_up, steps = threading.Event(), list[str]()

    def work() -> None:
        steps.append("first")
        checkpoint()
        given_up.set()
        steps.append("second")
        checkpoint()
        steps.append("third")

    for _ in range(2):
        with pytest.raises(Abandoned):
            run_until(given_up, work)
    assert steps == ["first", "second"]
    checkpoint()


async def test_what_waits_for_a_thread_is_not_begun_once_nobody_waits_for_it() -> None:
    """And what runs ends at its next checkpoint, so that the next one gets on."""
    pool = ThreadPoolExecutor(1)
    workers, going_on, begun = Workers(pool), threading.Event(), list[int]()

    def work(n: int) -> int:
        begun.append(n)
        while n == 0 and not going_on.wait(0.001):
            checkpoint()
        return n

    tasks = [asyncio.create_task(workers.run(partial(work, n))) for n in range(4)]
    await asyncio.sleep(0.05)
    for task in (*tasks[1:3], tasks[0]):  # what runs comes last: it holds the thread until then
        task.cancel()
        await asyncio.wait([task])
    assert await tasks[3] == 3
    assert begun == [0, 3]
    pool.shutdown()
