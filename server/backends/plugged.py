"""Backends of other packages: a function that makes one, found by its entry point.

    def make(name: str, options: Mapping[str, Any]) -> Backend

Code of others may raise anything. On making that is one line for the user, on answering one error
for the client.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

from mlxdeck.server.backend_names import plug_ins
from mlxdeck.server.backends.base import Backend
from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.errors import EngineFailed, ServerError
from mlxdeck.server.plug_ins import PlugInFault, lacks, load, named, told
from mlxdeck.server.request_facts import Digests, StreamItem

log = logging.getLogger(__name__)

WHAT = "backend plug-in"


def make_plugged(kind: str, name: str, options: Mapping[str, Any]) -> Backend:
    """The backend `name` of a plug-in.

    Raises:
        PlugInFault: Its code raises, or what it makes is no backend.
    """
    entry = plug_ins()[kind]
    make, about = load(WHAT, entry), named(WHAT, entry)
    if not callable(make):
        raise PlugInFault(f"{about}: it has to be a function that makes a backend")
    try:
        made = make(name, dict(options))
    except (Exception, SystemExit) as error:
        raise PlugInFault(f"{about}: {told(error)}") from error
    if missing := lacks(made, Backend):
        raise PlugInFault(f"{about}: what it makes is no backend, it lacks {', '.join(missing)}")
    return cast(Backend, _GuardedBackend(name, made))


class _GuardedBackend:
    """A backend whose answers fail with one type of exception."""

    def __init__(self, name: str, made: Backend) -> None:
        self._name = name
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    async def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        try:
            async with aclosing(self._made.answer(chat, parts)) as items:
                async for item in items:
                    yield item
        except ServerError:
            raise
        except Exception as error:
            log.warning("backend %s: an answer failed: %s", self._name, told(error))
            raise EngineFailed(f"the backend {self._name} failed: {told(error)}") from error
