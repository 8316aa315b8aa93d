"""The running requests, and how they end: by themselves, one by name, all when the server stops.

A server that stops gives them time to finish, while new requests are refused. Then they are cut
short: their current await raises an error, so that each still informs its client and its trace.
Cancelling one does the same to it alone. For the event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from mlxdeck.server.errors import Cancelled, RequestEnded, Stopping, UnknownRequest
from mlxdeck.server.lifecycle.running_request import RunningRequest

MAX_ENDED = 1_000
"""Requests that are still known by name after their end."""


class Drain:
    """One server's running requests."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether no more requests are taken."""
        self._running: dict[str, RunningRequest] = {}
        self._past: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._ended = asyncio.Event()

    @property
    def n_running(self) -> int:
        """How many are waited for."""
        return len(self._running)

    def check(self) -> None:
        """Send away who comes too late.

        Raises:
            Stopping: The server is about to end.
        """
        if self.stopping:
            raise Stopping

    @contextmanager
    def run(self, request: RunningRequest) -> Iterator[RunningRequest]:
        """A request that is waited for until the block is left.

        Raises:
            Stopping: It comes too late.
        """
        self.check()
        self._running[request.request_id] = request
        try:
            yield request
        finally:
            del self._running[request.request_id]
            for name in filter(None, (request.request_id, request.client_id)):
                self._past[request.owner, name] = None
            while len(self._past) > MAX_ENDED:
                self._past.popitem(last=False)
            self._ended.set()

    def owned(self, owner: str) -> list[RunningRequest]:
        """Somebody's running requests, the oldest first."""
        return [each for each in self._running.values() if each.owner == owner]

    def cancel(self, name: str, owner: str) -> list[str]:
        """End a request by its id, or all that their client calls so; return their ids.

        Raises:
            UnknownRequest: The owner has none of that name.
            RequestEnded: It has ended already.
        """
        own = self.owned(owner)
        # Ids of ours come first: a client may call a request like another one.
        named = [each for each in own if each.request_id == name]
        named = named or [each for each in own if each.client_id == name]
        for each in named:
            each.cut(Cancelled)
        if not named and (owner, name) in self._past:
            raise RequestEnded(name)
        if not named:
            raise UnknownRequest(name)
        return [each.request_id for each in named]

    async def empty(self) -> None:
        """Wait until no request runs."""
        while self._running:
            self._ended.clear()
            await self._ended.wait()

    def cut(self) -> None:
        """The time is over."""
        self.stopping = True
        for request in self._running.values():
            request.cut(Stopping)
