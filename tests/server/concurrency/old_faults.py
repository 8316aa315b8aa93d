"""What once went wrong, to be planted again: each as it was, where it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import KVState
from mlxdeck.server.backends.local.handover import Handover
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.leases import Lease, Leases
from mlxdeck.server.backends.local.scheduler import scheduler as scheduling
from mlxdeck.server.backends.local.scheduler.commands import Run
from mlxdeck.server.cache.answers import single_flight
from mlxdeck.server.cache.answers.disk import DiskAnswers
from mlxdeck.server.cache.answers.memory import Answer
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Fact, StreamItem

Plant = Callable[[pytest.MonkeyPatch], None]


def lease_for_nobody(patched: pytest.MonkeyPatch) -> None:
    """A lease that is made while its client leaves is nobody's."""
    patched.setattr(Handover, "abandon", lambda _: None)


class OldFlight(single_flight.Flight):
    """A generation that can be joined until it has ended, also while it dies."""

    def __init__(self, produce: single_flight.Produce, closed: Callable[[Any], None]) -> None:
        self._over, self._n_followers = False, 0
        super().__init__(produce, closed)

    async def _run(self, produce: single_flight.Produce) -> None:
        try:
            await produce(self._publish)
        finally:
            self._over = True
            self._closed(self)
            self._notify()

    def _landed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()

    async def follow(self, *, joined: bool = False) -> AsyncGenerator[StreamItem]:
        self._n_followers += 1
        n_seen = 0
        try:
            while True:
                while n_seen < len(self._events):
                    n_seen += 1
                    event = self._events[n_seen - 1]
                    if not (joined and isinstance(event, Fact)):
                        yield event
                if self._over:
                    await asyncio.shield(self._task)
                    return
                await self._changed.wait()
        finally:
            self._n_followers -= 1
            if not self._n_followers:
                self._task.cancel()


def joins_the_dying(patched: pytest.MonkeyPatch) -> None:
    """A retry joins the generation that ends as its last follower leaves."""
    patched.setattr(single_flight, "Flight", OldFlight)


def cleared_while_read(patched: pytest.MonkeyPatch) -> None:
    """An answer that is cleared while it is read is a KeyError."""
    get = DiskAnswers.get

    async def old(self: DiskAnswers, key: str) -> Answer | None:
        n_clears = self._n_clears
        answer = await get(self, key)
        if self._n_clears != n_clears:
            raise KeyError(key)
        return answer

    patched.setattr(DiskAnswers, "get", old)


def left_while_restored(patched: pytest.MonkeyPatch) -> None:
    """The engine's thread tells who has left that it is done."""

    async def run(
        self: scheduling.Scheduler, work: Callable[[], object], *, before_step: bool = False
    ) -> None:
        done = self._loop.create_future()

        def told(failure: str) -> None:
            del failure
            self._on_loop(lambda: done.set_result(None))

        self._worker.inbox.put(Run(work, told))
        await done

    patched.setattr(scheduling.Scheduler, "run", run)


def released_twice(patched: pytest.MonkeyPatch) -> None:
    """Two threads that release a lease at the same time both do."""

    def release(self: Leases, lease: Lease) -> None:
        block = lease.block
        time.sleep(0.005)
        lease.block = None
        self._out.discard(lease)
        if block is not None:
            block.n_leases -= 1

    patched.setattr(Leases, "release", release)


def one_reading_thread(patched: pytest.MonkeyPatch) -> None:
    """An answer waits behind the checksum of a state."""
    patched.setattr(DiskIO, "check", DiskIO.read)


def waits_beside_the_limit(patched: pytest.MonkeyPatch) -> None:
    """States that wait for the disk are held by it too."""
    keep, write_due = KVCache.keep, DiskPrefixCache.write_due
    pending: list[object] = []

    def old_keep(self: KVCache, kept: KVState, *args: Any, **named: Any) -> None:
        pending.append(kept.state)
        keep(self, kept, *args, **named)

    def old_write_due(self: DiskPrefixCache, *, everything: bool = False) -> None:
        if everything:
            pending.clear()
        write_due(self, everything=everything)

    patched.setattr(KVCache, "keep", old_keep)
    patched.setattr(DiskPrefixCache, "write_due", old_write_due)


def counts_commands_as_requests(patched: pytest.MonkeyPatch) -> None:
    """Clients that leave make the queue longer."""

    def status(self: scheduling.Scheduler) -> Load:
        worker = self._worker
        queued = len(worker._waiting) + worker.inbox.qsize()
        return Load(len(worker.running), queued, worker.output_tokens, worker.prefill_tokens)

    patched.setattr(scheduling.Scheduler, "status", property(status))


OLD_FAULTS: Mapping[Plant, tuple[str, tuple[str, ...]]] = {
    lease_for_nobody: ("leases are left", ("_leave_while_leased", "_ask")),
    joins_the_dying: ("was cancelled though", ("_all_leave_and_one_comes", "_abort_and_resend")),
    cleared_while_read: ("KeyError|a shared generation failed", ("_clear_while_read",)),
    left_while_restored: ("InvalidStateError", ("_leave_while_restored",)),
    released_twice: ("leases are left", ("_leave_while_leased", "_leave_one", "_ask")),
    one_reading_thread: ("waited for the checksum", ("_answer_beside_a_checksum",)),
    waits_beside_the_limit: ("bytes of states live", ("_ask", "_ask_together")),
    counts_commands_as_requests: ("Overloaded", ("_crowd",)),
}
"""Each: what of it is seen, and where it is likely to happen."""
