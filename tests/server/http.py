"""The server's own HTTP, on a loopback port of this process, with the echo engine behind it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from sanic import Request, Sanic
from sanic.touchup.schemes import base as touched_up

from mlxdeck.server.app import create_app
from mlxdeck.server.backends.base import Backend
from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Engine
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.service import Service
from mlxdeck.server.web.connection import Connection
from mlxdeck.telemetry.write.writer import MemoryWriter
from tests.real import free_port

# Hundreds of servers start in one process: what is the same for all is read once.
touched_up.getsource = functools.cache(inspect.getsource)  # type: ignore[attr-defined,assignment]
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Running:
    """A server of this process, its client and its telemetry."""

    http: httpx2.AsyncClient
    service: Service
    telemetry: MemoryWriter
    said: list[str]

    async def ask(self, prompt: str, **fields: Any) -> httpx2.Response:
        """One user turn over the Messages API; `headers` go beside the body."""
        headers = fields.pop("headers", {})
        return await self.http.post("/v1/messages", json=body(prompt, **fields), headers=headers)

    async def ended(self, n_requests: int) -> list[Any]:
        """The attributes of `request.end`, once there are `n_requests`."""
        for _ in range(500):
            if len(ends := self.telemetry.named("request.end")) >= n_requests:
                return [line.attrs for line in ends]
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(ends)} of {n_requests} requests have ended")


def body(prompt: str, **fields: Any) -> dict[str, Any]:
    """A request with one user turn."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": "local", "max_tokens": 1000, "messages": messages, **fields}


def events(stream: str) -> list[tuple[str, Any]]:
    """The events of a stream, decoded."""
    found = []
    for block in stream.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@asynccontextmanager
async def running(
    engine: Engine | None = None,
    *,
    backend: Backend | None = None,
    loaded: bool = True,
    bodies: list[bytes] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Serve until the block ends; `loaded` waits for the model first.

    `backend` answers in the place of an engine.

    What is posted to the Messages API is added to `bodies`.
    """
    Sanic.test_mode = True
    # The disk is for tests that give it a home of their own.
    defaults = {"port": free_port(), "engine": "echo", "disk_cache": "home" in settings}
    told = Settings(**{**defaults, **settings})
    telemetry, said = MemoryWriter(), list[str]()
    app = create_app(
        told,
        backend or LocalBackend(told, engine or EchoEngine()),
        lambda _: telemetry,
        said.append,
    )

    async def note(request: Request) -> None:
        if bodies is not None and request.path == "/v1/messages":
            bodies.append(request.body)

    app.register_middleware(note, "request")
    server = await app.create_server(
        host=told.host,
        port=told.port,
        return_asyncio_server=True,
        access_log=False,
        protocol=Connection,
    )
    assert server is not None
    await server.startup()
    await server.before_start()
    await server.after_start()
    service: Service = app.ctx.service
    try:
        if loaded:
            await service.ready()
        async with httpx2.AsyncClient(
            base_url=told.url, timeout=100, verify=_NO_CERTIFICATES
        ) as client:
            yield Running(client, service, telemetry, said)
    finally:
        await server.before_stop()
        server.close()
        await server.wait_closed()
        await server.after_stop()
        Sanic.unregister_app(app)


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for something to become true."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")
