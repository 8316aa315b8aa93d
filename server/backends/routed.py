"""Several backends as one: the name of the model that a request asks for says which one answers.

One that can't start leaves the others alone. Another one may take over from a backend that can't
answer; the pipeline does that, by the routes that it gets from here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing
from dataclasses import fields, replace
from functools import partial
from typing import Any

from mlxdeck.server.backends.base import (
    Announce,
    Backend,
    BackendInfo,
    BackendStatus,
    Health,
    Route,
    ServedModel,
)
from mlxdeck.server.backends.member import Member
from mlxdeck.server.backends.routing import SEPARATOR, Destination, RoutingTable
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import one_line
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Digests, FallbackReason, StreamItem
from mlxdeck.settings.errors import UserError

log = logging.getLogger(__name__)

DEFAULT = "default"
"""Name of a model that isn't known yet."""
OF_THE_PROCESS = ("memory_active_bytes", "memory_peak_bytes", "memory_limit_bytes")
LOAD_WAIT_S = 60.0
"""A request waits so long for a backend that loads, if no other one can take over."""


class RoutedBackend:
    """The `Backend` of a server that has several."""

    lost: asyncio.Future[str]

    def __init__(
        self,
        members: Collection[Member],
        routing: RoutingTable,
        *,
        gives_way_on: frozenset[FallbackReason],
        fallback_wait_s: float,
        warmed: str,
    ) -> None:
        """`warmed` names the one whose prompts are prefilled at the start."""
        self._members = {member.name: member for member in members}
        self._routing = routing
        self._gives_way_on = gives_way_on
        self._wait_s = fallback_wait_s
        self._default = self._members[routing.default.backend]
        self._warmed = self._members[warmed]

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """Start all of them. The default one is waited for, unless another one takes over.

        So is one that shares its thread, and whose loading would hold it up.

        Raises:
            UserError: The settings of one are wrong.
            Exception: What keeps the default one from starting, if no other one has started.
        """
        self.lost = asyncio.get_running_loop().create_future()
        tasks = {member.start(announce, disk): member for member in self._members.values()}
        for task, member in tasks.items():
            task.add_done_callback(partial(self._started, member))
        default = self._default.starting
        assert default is not None
        await asyncio.wait({default}, timeout=None if len(tasks) == 1 else self._wait_s)
        while not any(member.is_ready for member in self._members.values()):
            waiting = {task for task in tasks if not task.done()}
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if awaited := [task for task, member in tasks.items() if member.is_awaited]:
            await asyncio.wait(awaited)
        failures = {member.name: member.failure for member in tasks.values() if member.failure}
        for failure in failures.values():
            if isinstance(failure, UserError) or len(failures) == len(tasks):
                raise self._default.failure or failure
        for name, failure in failures.items():
            announce(f"the backend {name} can't start: {one_line(failure)}")

    def _started(self, member: Member, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.warning("the backend %s can't start: %s", member.name, one_line(error))
            return
        member.backend.lost.add_done_callback(partial(self._lost, member))

    def _lost(self, member: Member, lost: asyncio.Future[str]) -> None:
        if not lost.cancelled() and not self.lost.done():
            self.lost.set_result(f"{member.name}: {lost.result()}")

    async def stop(self) -> None:
        """End the running requests of all."""
        await self._all([member.stop() for member in self._members.values()])

    async def close(self) -> None:
        """Write and release what they hold."""
        started = [member for member in self._members.values() if member.is_ready]
        await self._all([member.backend.close() for member in started])

    async def _all(self, ends: Sequence[Any]) -> None:
        """Do all of them, also if one fails."""
        for result in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    @property
    def info(self) -> BackendInfo:
        """The default one's, and the names of all."""
        default = self._default
        if not default.is_ready:
            # No name of a backend, as that would mean this one alone.
            return BackendInfo(DEFAULT, "", None, "", self._about())
        info = default.backend.info
        about = "; ".join(part for part in (info.about, self._about()) if part)
        return replace(info, about=about)

    def _about(self) -> str:
        others = [
            f"{name} ({member.backend.info.name})"
            if member.is_awaited and member.is_ready
            else name
            for name, member in self._members.items()
            if member is not self._default
        ]
        told = f"backend {self._default.name}"
        return f"{told}, beside {', '.join(others)}" if others else told

    @property
    def status(self) -> BackendStatus:
        """The sum of all, and each by its name."""
        found = {name: member.status for name, member in self._members.items()}
        details: dict[str, Any] = {}
        for status in found.values():
            counted = {name: n for name, n in details.items() if type(n) is int}
            details |= status.details
            # What several count is counted together.
            for name, n in counted.items():
                details[name] += n if name in status.details else 0
        details["small_model"] = self._small_model()
        details["backends"] = {name: self._told(name, status) for name, status in found.items()}
        return BackendStatus(
            self._health(found), _sum([each.load for each in found.values()]), details
        )

    def _small_model(self) -> str | None:
        """What a client may call the model for small requests; None if that is not known."""
        small = self._routing.small
        if small is None or small.model:
            return f"{small.backend}{SEPARATOR}{small.model}" if small else None
        member = self._members[small.backend]
        of_ours = member.is_awaited and member.is_ready
        return f"{member.name}{SEPARATOR}{member.backend.info.name}" if of_ours else None

    def _told(self, name: str, status: BackendStatus) -> dict[str, Any]:
        member, health = self._members[name], status.health
        info = member.backend.info if member.is_ready else None
        return {
            "status": health.state,
            "reason": health.reason or None,
            "model": info.name if info else None,
            "context_tokens": info.context_tokens if info else None,
            "active": status.load.active,
            "queued": status.load.queued,
        }

    def _health(self, found: dict[str, BackendStatus]) -> Health:
        """The default one's; `degraded` if another one is down, or takes over."""
        name, fallback = self._default.name, self._routing.fallback
        own = found[name].health
        troubles = {
            each: f"{each}: {status.health.reason or status.health.state}"
            for each, status in found.items()
            if status.health.state != "healthy"
        }
        if own.state in ("healthy", "degraded"):
            told = "; ".join(troubles.values())
            return Health("degraded", told) if told else own
        if fallback is not None and fallback.backend not in troubles:
            return Health("degraded", f"{troubles[name]}; {fallback.backend} takes over")
        return Health(own.state, "; ".join(troubles.values()))

    @property
    def must_not_unload(self) -> bool:
        """Whether any of them must not."""
        return any(member.backend.must_not_unload for member in self._members.values())

    def routes(self, chat: ChatRequest) -> Sequence[Route]:
        """Those that the model's name leads to."""
        first, *others = self._routing.destinations(chat.model)
        return [
            self._route(first, gives_way=bool(others)),
            *(self._route(other, gives_way=False) for other in others),
        ]

    def _route(self, to: Destination, *, gives_way: bool) -> Route:
        member = self._members[to.target.backend]
        wait_s = self._wait_s if gives_way and "loading" in self._gives_way_on else LOAD_WAIT_S
        return Route(
            member.name,
            member.backend,
            to.model,
            member.share,
            self._gives_way_on if gives_way else frozenset(),
            partial(member.ready, wait_s, gives_way=gives_way and "down" in self._gives_way_on),
        )

    def _first(self, chat: ChatRequest) -> tuple[Backend, ChatRequest]:
        route = self.routes(chat)[0]
        return route.backend, route.given(chat)

    @property
    def clock_formats(self) -> Sequence[str]:
        """The default one's."""
        return self._default.backend.clock_formats

    def models(self) -> Sequence[ServedModel]:
        """The default one's, those of others as `NAME/MODEL`, and aliases that have no stars."""
        found: dict[str, int | None] = {}
        ready = [member for member in self._members.values() if member.is_ready]
        for member in sorted(ready, key=lambda member: member is not self._default):
            for each in member.backend.models():
                is_usual = member is self._default
                name = each.name if is_usual else f"{member.name}{SEPARATOR}{each.name}"
                found.setdefault(name, each.context_tokens)
        for alias, target in self._routing.aliases.items():
            told = {each.name: each.context_tokens for each in self._models_of(target.backend)}
            found.setdefault(alias, told.get(target.model, next(iter(told.values()), None)))
        return [ServedModel(name, window) for name, window in found.items()]

    def _models_of(self, name: str) -> Sequence[ServedModel]:
        member = self._members[name]
        return member.backend.models() if member.is_ready else ()

    def model_name(self, chat: ChatRequest) -> str:
        """As the one that answers calls it."""
        backend, given = self._first(chat)
        return backend.model_name(given)

    def check(self, chat: ChatRequest) -> None:
        """As the one that answers does."""
        backend, given = self._first(chat)
        backend.check(given)

    def key_share(self, chat: ChatRequest) -> str:
        """As the one that answers says."""
        backend, given = self._first(chat)
        return backend.key_share(given)

    def notes(self, chat: ChatRequest) -> tuple[str, ...]:
        """As the one that answers says."""
        backend, given = self._first(chat)
        return backend.notes(given)

    def regroupings(self, chat: ChatRequest) -> tuple[str, ...]:
        """As the one that answers does."""
        backend, given = self._first(chat)
        return backend.regroupings(given)

    def expecting(self) -> AbstractContextManager[None]:
        """The default one expects it."""
        return self._default.backend.expecting()

    async def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """Have the first one answer."""
        backend, given = self._first(chat)
        async with aclosing(backend.answer(given, parts)) as items:
            async for item in items:
                yield item

    async def count(self, chat: ChatRequest) -> int:
        """As the one that answers counts."""
        backend, given = self._first(chat)
        return await backend.count(given)

    async def shared_tokens(self, chat: ChatRequest) -> list[int]:
        """For the one whose prompts are prefilled."""
        return await self._warmed.backend.shared_tokens(chat) if self._warmed.is_ready else []

    async def known_tokens(self, system: str, tools: str) -> list[int] | None:
        """For the one whose prompts are prefilled."""
        warmed = self._warmed
        return await warmed.backend.known_tokens(system, tools) if warmed.is_ready else None

    async def prefill(self, tokens: list[int]) -> None:
        """For the one whose prompts are prefilled."""
        await self._warmed.backend.prefill(tokens)

    def cache_report(self) -> dict[str, Any]:
        """The tiers of all; of two with one name, the later one's has its backend's in front."""
        return {name: report for name, (_, _, report) in self._tiers().items()}

    async def clear(self, tier: str) -> int:
        """Empty one of them."""
        member, name, _ = (await asyncio.to_thread(self._tiers))[tier]
        return await member.backend.clear(name)

    def _tiers(self) -> dict[str, tuple[Member, str, Any]]:
        found: dict[str, tuple[Member, str, Any]] = {}
        for member in self._members.values():
            reports = member.backend.cache_report() if member.is_ready else {}
            for tier, report in reports.items():
                name = f"{member.name}_{tier}" if tier in found else tier
                found[name] = (member, tier, report)
        return found

    def tick(self) -> None:
        """Let each do its work, also if one fails."""
        with ExitStack() as stack:
            for member in self._members.values():
                if member.is_ready:
                    stack.callback(member.backend.tick)


def _sum(loads: Sequence[Load]) -> Load:
    """All figures added up; those that a backend doesn't know count nothing.

    The device's memory is the same for all, as it is that of the process.
    """
    summed: dict[str, Any] = {}
    for each in fields(Load):
        values = [value for load in loads if (value := getattr(load, each.name)) is not None]
        zero: Any = () if isinstance(each.default, tuple) else 0
        if not values and loads:
            summed[each.name] = None
        elif each.name in OF_THE_PROCESS:
            summed[each.name] = max(values, default=zero)
        else:
            summed[each.name] = sum(values, zero)
    return Load(**summed)
