"""The thread of tokenizer and template: whatever happens on it, whoever waits is told once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlxdeck.server.backends.local.prompt_thread import PromptThread
from mlxdeck.server.checkpoints import Abandoned
from mlxdeck.server.errors import BadRequest, EngineFailed
from tests.server.backends.local.faults import KINDS
from tests.server.http import until


@asynccontextmanager
async def opened(stall_s: float = 60.0) -> AsyncIterator[tuple[PromptThread, list[str]]]:
    """A thread that runs, and what it was given up for."""
    given_up: list[str] = []
    thread = PromptThread(stall_s, given_up.append)
    thread.start()
    try:
        yield thread, given_up
    finally:
        thread.shutdown()
        await until(lambda: not thread._thread.is_alive())
        assert not thread._open


def run(thread: PromptThread, work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Do something on the thread."""
    return asyncio.wrap_future(thread.submit(work))


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_is_raised_is_one_error(kind: str) -> None:
    """And the thread goes on."""

    def fail() -> None:
        raise KINDS[kind]()

    async with opened() as (thread, _):
        with pytest.raises(EngineFailed, match="injected"):
            await run(thread, fail)
        assert await run(thread, lambda: 7) == 7


async def test_errors_of_requests_stay_what_they_are() -> None:
    """A malformed request is no fault."""

    def refuse() -> None:
        raise BadRequest("messages", "no")

    async with opened() as (thread, _):
        with pytest.raises(BadRequest):
            await run(thread, refuse)


async def test_a_hang_is_told_to_everyone_who_waits() -> None:
    """At work, behind it, and later; who comes back is heard again."""
    go = threading.Event()
    async with opened(0.2) as (thread, given_up):
        hung, behind = run(thread, lambda: go.wait(60)), run(thread, lambda: 1)
        for each in (hung, behind):
            with pytest.raises(EngineFailed, match="no progress"):
                await asyncio.wait_for(each, 10)
        with pytest.raises(EngineFailed, match="no progress"):
            thread.submit(lambda: 1)
        assert thread.busy
        await until(lambda: given_up)
        go.set()
        await until(lambda: not thread.watch.stalled)
        assert await run(thread, lambda: 2) == 2


async def test_stopping_does_not_wait() -> None:
    """Who waits is told at once."""
    go = threading.Event()
    async with opened() as (thread, _):
        hung, behind = run(thread, lambda: go.wait(60)), run(thread, lambda: 1)
        await until(lambda: thread.busy)
        thread.shutdown()
        for each in (hung, behind):
            with pytest.raises(EngineFailed, match="stopping"):
                await each
        go.set()


async def test_a_prompt_that_nobody_waits_for_is_not_made() -> None:
    """Its client left while it was queued."""
    made: list[int] = []
    go = threading.Event()
    async with opened() as (thread, _):
        first, second = run(thread, lambda: go.wait(60)), run(thread, lambda: made.append(2))
        second.cancel()
        # What is cancelled here is told to the thread by the loop.
        await asyncio.sleep(0)
        go.set()
        await first
        await run(thread, lambda: made.append(3))
        assert made == [3]


async def test_work_that_is_abandoned_leaves_nothing() -> None:
    """It has no end that anybody waits for, and is held no longer."""

    def leave() -> None:
        raise Abandoned

    async with opened() as (thread, _):
        thread.submit(leave)
        await run(thread, lambda: None)
        assert not thread._open
