"""One request in front of its backend: canonical form, exact answers, single flight, trace.

Which backend that is comes first, as each has answers of its own. `run` yields `Started` first and
`Finished` last, or raises one `ServerError`. Closing it at any point cancels the request. Three
generators are between an engine and a socket: the backend's `answer`, a flight's `follow`, and
`run`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial

from mlxdeck.server.backends.base import Backend, Route
from mlxdeck.server.cache.answers.memory import Answer, complete_answer
from mlxdeck.server.cache.answers.single_flight import Flight, Publish, SingleFlight
from mlxdeck.server.cache.answers.tiered import TieredAnswers
from mlxdeck.server.cache.cache_keys import answer_key, digests
from mlxdeck.server.cache.known_forms import CanonicalForm, KnownForms
from mlxdeck.server.canonicalize import canonical, removed_parts
from mlxdeck.server.chat import ChatRequest, Event, Finished, Ping, Started
from mlxdeck.server.checkpoints import Lanes, checkpoint
from mlxdeck.server.errors import ServerError
from mlxdeck.server.joined_events import JoinedEvents
from mlxdeck.server.observe.trace import Trace
from mlxdeck.server.request_facts import (
    Accepted,
    BackendChosen,
    Digests,
    Fact,
    LookedUp,
    Miss,
    StreamItem,
)
from mlxdeck.server.turns import LoopTurns


class Pipeline:
    """Answers requests with a backend. For the event loop."""

    def __init__(
        self,
        backend: Backend,
        answers: TieredAnswers,
        rules_off: Collection[str],
        lanes: Lanes,
    ) -> None:
        """`rules_off` are rules of the canonical form that are not applied.

        `lanes` are for requests that are not short.
        """
        self._lanes = lanes
        self._forms = KnownForms()
        self.backend = backend
        self._answers = answers
        self._rules_off = rules_off
        self._flights = SingleFlight()

    async def run(
        self, request: ChatRequest, trace: Trace, *, fresh: bool = False
    ) -> AsyncGenerator[Event]:
        """Answer a request; `fresh` asks for a new answer even where one is known.

        A backend that can't answer may give way to the next one, before anything is yielded.

        Raises:
            ServerError: One, and nothing after it.
        """
        routes = self.backend.routes(request)
        accepted: Accepted | None = None
        chosen = BackendChosen(routes[0].name)
        for route, others in ((each, routes[n:]) for n, each in enumerate(routes, 1)):
            has_begun, began_s = False, time.monotonic()
            trace.saw(chosen)
            try:
                await route.ready()
                trace.saw(replace(chosen, model=route.backend.model_name(route.given(request))))
                before, n_bytes = accepted, trace.arrival.body_bytes
                accepted = await self._accept(route, request, before, n_bytes)
                if before is None:
                    trace.saw(replace(accepted, asked=request))
                source = self._source(route, accepted, trace, began_s, fresh=fresh)
                opening = _Opening(holds=bool(others), is_streamed=request.stream)
                async with aclosing(source) as items:
                    async for item in items:
                        trace.saw(item)
                        for event in opening.passed(item):
                            has_begun = True
                            yield event
                return
            except ServerError as error:
                reason = route.gives_way(error)
                if has_begun or not others or not reason:
                    raise
                chosen = BackendChosen(others[0].name, fell_back_from=route.name, reason=reason)

    async def _accept(
        self, route: Route, request: ChatRequest, before: Accepted | None, body_bytes: int
    ) -> Accepted:
        """Have the backend check a request, in the canonical form that it may have got `before`."""
        form = self._forms.get(request, route.name)
        read = partial(self._read, route, request, before, form)
        # A share is a digest of the whole body, and depends on the backend's present state.
        is_known = form is not None and not form.has_share
        if is_known or request.is_short:
            accepted = read()
        else:
            lane = self._lanes.long if request.is_long else self._lanes.medium
            accepted = await lane.run(read)
        if form is None:
            self._forms.put(request, route.name, accepted, body_bytes)
        return replace(accepted, queued=route.backend.status.load.queued)

    def _read(
        self,
        route: Route,
        request: ChatRequest,
        before: Accepted | None,
        form: CanonicalForm | None,
    ) -> Accepted:
        """The canonical form, its digests and its key. Any thread: this takes long."""
        backend, given = route.backend, route.given(request)
        backend.check(given)
        share = backend.key_share(given)
        if before is not None:
            return _with_key(replace(before, share=share), route)
        request, removed = form.canonical if form else canonical(request, self._rules_off)
        checkpoint()
        regrouped = backend.regroupings(request)
        parts = form.parts if form else digests(request)
        request = replace(request, history_notes=backend.notes(request))
        taken = form.taken if form else removed_parts(given, removed)
        return _with_key(Accepted(request, parts, removed, regrouped, None, share, taken), route)

    def _source(
        self, route: Route, accepted: Accepted, trace: Trace, began_s: float, *, fresh: bool
    ) -> AsyncGenerator[StreamItem]:
        """Where one backend's answer comes from: it is known, in flight, or new."""
        request, parts, key = route.given(accepted.request), accepted.parts, accepted.key
        if not self._shares(fresh=fresh):
            trace.saw(_exact(key, began_s, reason="bypassed" if fresh else "disabled"))
            return self._alone(key, parts, request, route.backend).follow()
        if answer := self._answers.known(key):
            trace.saw(_exact(key, began_s, tier="ram"))
            return _replayed(answer)
        if flight := self._flights.get(key):
            trace.saw(_exact(key, began_s, tier="flight"))
            return flight.follow(joined=True)
        return self._start(key, parts, request, route.backend).follow()

    def _shares(self, *, fresh: bool) -> bool:
        """Whether a known or running answer may be used."""
        return self._answers.enabled and not fresh

    def _start(self, key: str, parts: Digests, request: ChatRequest, backend: Backend) -> Flight:
        """A generation that others may join, after a lookup in the slower caches."""

        async def find(publish: Publish) -> None:
            began_s = time.monotonic()
            with backend.expecting():
                found = await self._answers.find(key)
            if found is None:
                reason = self._answers.miss_reason(key)
                publish(_exact(key, began_s, reason=reason))
                await self._generate(key, parts, request, backend, publish)
                return
            answer, tier = found
            publish(_exact(key, began_s, tier=tier))
            turns = LoopTurns()
            for event in answer.events():
                publish(event)
                await turns.take()

        return self._flights.start(key, find)

    def _alone(self, key: str, parts: Digests, request: ChatRequest, backend: Backend) -> Flight:
        """A generation that no other request may join."""
        generate = partial(self._generate, key, parts, request, backend)
        return Flight(generate, lambda _: None)

    async def _generate(
        self, key: str, parts: Digests, request: ChatRequest, backend: Backend, publish: Publish
    ) -> None:
        """Have a backend answer, and remember the answer if it is one to repeat."""
        began_s = time.monotonic()
        sent = JoinedEvents()
        async with aclosing(backend.answer(request, parts)) as events:
            async for event in events:
                if not isinstance(event, Fact):
                    sent.add(event)
                if isinstance(event, Finished):
                    if answer := complete_answer(sent.events, time.monotonic() - began_s):
                        self._answers.put(key, answer)
                    else:
                        self._answers.refuse(key)
                publish(event)

    async def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt of a request has."""
        counted = partial(canonical, request, self._rules_off)
        lane = self._lanes.long if request.is_long else self._lanes.medium
        chat, _ = counted() if request.is_short else await lane.run(counted)
        *first, last = self.backend.routes(chat)
        for route in first:
            try:
                await route.ready()
                return await route.backend.count(route.given(chat))
            except ServerError as error:
                if not route.gives_way(error):
                    raise
        await last.ready()
        return await last.backend.count(last.given(chat))

    async def shared_tokens(self, request: ChatRequest) -> list[int]:
        """The tokens of a request's system prompt and tools."""
        return await self.backend.shared_tokens(canonical(request, self._rules_off)[0])


def _with_key(accepted: Accepted, route: Route) -> Accepted:
    request, clock = route.given(accepted.request), _clock(route.backend)
    parts, share = accepted.parts, accepted.share
    return replace(accepted, key=answer_key(parts, request, route.signature, clock, share))


def _clock(backend: Backend) -> list[str]:
    now = datetime.now().astimezone()
    return [now.strftime(each) for each in backend.clock_formats]


async def _replayed(answer: Answer) -> AsyncGenerator[StreamItem]:
    turns = LoopTurns()
    for event in answer.events():
        yield event
        await turns.take()


class _Opening:
    """Takes facts out of an answer's stream, and may hold its beginning back for one event.

    An answer may fail right after it has begun, and another backend then takes over. Who waits
    for a whole answer needs no pings, which would say that it has begun.
    """

    def __init__(self, *, holds: bool, is_streamed: bool) -> None:
        self._holds, self._is_streamed = holds, is_streamed
        self._held: tuple[Event, ...] = ()

    def passed(self, item: StreamItem) -> tuple[Event, ...]:
        """The events that are to be sent by now."""
        if isinstance(item, Fact):
            return ()
        if self._holds and isinstance(item, Started):
            self._held = (item,)
            return ()
        if self._holds and isinstance(item, Ping) and not self._is_streamed:
            return ()
        held, self._held = self._held, ()
        return (*held, item)


def _exact(key: str, began_s: float, *, tier: str = "", reason: str = "") -> LookedUp:
    duration_s = time.monotonic() - began_s
    return LookedUp("exact", tier=tier, miss=Miss(reason), duration_s=duration_s, key=key)
