"""One request in front of a backend: canonical form, exact answers, single flight, trace.

`run` yields `Started` first and `Finished` last, or raises one `ServerError`. Closing it at any
point cancels the request. Three generators are between an engine and a socket: the backend's
`answer`, a flight's `follow`, and `run`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial

from mlxdeck.server.backends.base import Backend
from mlxdeck.server.cache.answers.memory import complete_answer
from mlxdeck.server.cache.answers.single_flight import Flight, Publish, SingleFlight
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.cache.cache_keys import answer_key, digests
from mlxdeck.server.canonicalize import canonical
from mlxdeck.server.chat import ChatRequest, Event, Finished
from mlxdeck.server.checkpoints import Workers, checkpoint
from mlxdeck.server.observe.trace import Trace
from mlxdeck.server.request_facts import Accepted, Digests, Fact, LookedUp, Miss


class Pipeline:
    """Answers requests with a backend. For the event loop."""

    def __init__(
        self,
        backend: Backend,
        answers: TieredAnswers,
        rules_off: Collection[str],
        workers: Workers,
    ) -> None:
        """`rules_off` are rules of the canonical form that are not applied.

        `workers` read what is long.
        """
        self._workers = workers
        self.backend = backend
        self._answers = answers
        self._rules_off = rules_off
        self._flights = SingleFlight()

    async def run(
        self, request: ChatRequest, trace: Trace, *, fresh: bool = False
    ) -> AsyncGenerator[Event]:
        """Answer a request; `fresh` asks for a new answer even where one is known.

        Raises:
            ServerError: One, and nothing after it.
        """
        began_s = time.monotonic()
        read = partial(self._read, request)
        accepted = await self._workers.run(read) if request.is_long else read()
        request, parts = accepted.request, accepted.parts
        trace.saw(replace(accepted, queued=self.backend.status.load.queued))
        key = answer_key(parts, request, self.backend.info.signature, self._clock())
        if self._shares(fresh=fresh):
            if answer := self._answers.known(key):
                trace.saw(_exact(key, began_s, tier="ram"))
                for known in answer.events():
                    trace.saw(known)
                    yield known
                return
            if flight := self._flights.get(key):
                trace.saw(_exact(key, began_s, tier="flight"))
                following = flight.follow(joined=True)
            else:
                following = self._start(key, parts, request).follow()
        else:
            trace.saw(_exact(key, began_s, reason="bypassed" if fresh else "disabled"))
            following = self._alone(key, parts, request).follow()
        async with aclosing(following) as events:
            async for event in events:
                trace.saw(event)
                if not isinstance(event, Fact):
                    yield event

    def _read(self, request: ChatRequest) -> Accepted:
        """The canonical form and its digests. Pure; any thread, for a long request takes long."""
        self.backend.check(request)
        request, removed = canonical(request, self._rules_off)
        checkpoint()
        return Accepted(request, digests(request), removed, self.backend.regroupings(request), 0)

    def _clock(self) -> list[str]:
        now = datetime.now().astimezone()
        return [now.strftime(each) for each in self.backend.clock_formats]

    def _shares(self, *, fresh: bool) -> bool:
        """Whether a known or running answer may be used."""
        return self._answers.enabled and not fresh

    def _start(self, key: str, parts: Digests, request: ChatRequest) -> Flight:
        """A generation that others may join, after a lookup in the slower caches."""

        async def find(publish: Publish) -> None:
            began_s = time.monotonic()
            with self.backend.expecting():
                found = await self._answers.find(key)
            if found is None:
                reason = self._answers.miss_reason(key)
                publish(_exact(key, began_s, reason=reason))
                await self._generate(key, parts, request, publish)
                return
            answer, tier = found
            publish(_exact(key, began_s, tier=tier))
            for event in answer.events():
                publish(event)

        return self._flights.start(key, find)

    def _alone(self, key: str, parts: Digests, request: ChatRequest) -> Flight:
        """A generation that no other request may join."""
        return Flight(lambda publish: self._generate(key, parts, request, publish), lambda _: None)

    async def _generate(
        self, key: str, parts: Digests, request: ChatRequest, publish: Publish
    ) -> None:
        """Have the backend answer, and remember the answer if it is one to repeat."""
        began_s = time.monotonic()
        sent: list[Event] = []
        async with aclosing(self.backend.answer(request, parts)) as events:
            async for event in events:
                if not isinstance(event, Fact):
                    sent.append(event)
                if isinstance(event, Finished):
                    if answer := complete_answer(sent, time.monotonic() - began_s):
                        self._answers.put(key, answer)
                    else:
                        self._answers.refuse(key)
                publish(event)

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt of a request has."""
        counted = partial(canonical, request, self._rules_off)
        chat, _ = await self._workers.run(counted) if request.is_long else counted()
        return await self.backend.count(chat)

    async def shared_tokens(self, request: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        return await self.backend.shared_tokens(canonical(request, self._rules_off)[0])


def _exact(key: str, began_s: float, *, tier: str = "", reason: str = "") -> LookedUp:
    duration_s = time.monotonic() - began_s
    return LookedUp("exact", tier=tier, miss=Miss(reason), duration_s=duration_s, key=key)
