"""One client of a server: what it asked, whether it is still there, and what became of it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, Protocol

from mlxdeck.server.chat import Finished, Started, TextDelta
from mlxdeck.server.dialects.registry import DIALECTS
from mlxdeck.server.errors import ServerError
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.observe.trace import Trace
from tests.server.concurrency.house import House


class World(Protocol):
    """Where clients live."""

    house: House

    def found(self, what: str) -> None:
        """Note a violation."""

    def failed(self, client: Client, error: ServerError) -> None:
        """A client was told of an error."""


class Client:
    """One request and what became of it."""

    def __init__(self, world: World, asked: tuple[str, ...], number: int) -> None:
        self.request_id = f"req_{number}"
        self.asked = asked
        self.has_left = False
        self.outcome = ""
        self._world = world
        self.task = asyncio.create_task(self._to_its_end())

    def leave(self) -> None:
        """Close the connection."""
        self.has_left = True
        self.task.cancel()

    async def _run(self) -> None:
        system, *turns = self.asked
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": turn} for n, turn in enumerate(turns)]
        body = {"model": "m", "max_tokens": 400, "system": system, "messages": messages}
        chat = DIALECTS["anthropic"].decode(json.dumps(body).encode(), {})
        service = self._world.house.service
        trace = service.observer.begin(Arrival(self.request_id, "anthropic", 0))
        try:
            await self._answered(service, chat, trace)
        except ServerError as error:
            trace.failed(error, "generate")
            self._world.failed(self, error)
            self.outcome = "error"
        finally:
            trace.close()

    async def _answered(self, service: Any, chat: Any, trace: Trace) -> None:
        kinds: list[type] = []
        text = ""
        async with aclosing(service.pipeline.run(chat, trace)) as events:
            async for event in events:
                kinds.append(type(event))
                text += event.text if isinstance(event, TextDelta) else ""
        whole = kinds.count(Started) == kinds.count(Finished) == 1
        if not (whole and kinds[0] is Started and kinds[-1] is Finished):
            self._world.found(f"{self.request_id} was sent {[each.__name__ for each in kinds]}")
        if text != self.asked[-1]:
            self._world.found(f"{self.request_id} asked {self.asked[-1]!r} and got {text!r}")
        self.outcome = "ok"

    async def _to_its_end(self) -> None:
        # Caught here: the task would keep the traceback, and that what the request has held.
        try:
            await self._run()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            if not self.has_left:
                self._world.found(f"{self.request_id} was cancelled though its client is there")
        except Exception as error:  # noqa: BLE001
            self.outcome = "error"
            self._world.found(f"{self.request_id} ended in {error!r}")
