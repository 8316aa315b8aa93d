"""The end of a server in steps, each with a time limit: no step waits for ever, nothing is lost.

The listener closes first, so that another server can bind. Running requests get time to finish, and
later ones get a 503. The rest is then cut short, with an error in its API's form. Slow clients get
a moment to read, then connections are cut. Only then the service is stopped: every `request.end`
comes before `server.stop`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from sanic import Sanic

from mlxdeck.server.lifecycle.draining import Drain
from mlxdeck.server.lifecycle.stop_signals import StopSignals

log = logging.getLogger(__name__)

TELL_S = 2.0
"""Time for the errors of requests that were cut short, and then for clients to read them."""
POLL_S = 0.02


async def shut_down(
    app: Sanic[Any, Any], server: Any, signals: StopSignals, timeout_s: float
) -> None:
    """End the running requests in `timeout_s` and a few seconds; at once on a second signal."""
    drain: Drain = app.ctx.drain
    drain.stopping = True
    # Not awaited before its connections are closed.
    closed = server.close()
    if drain.n_running and timeout_s:
        log.info("stopping: %d requests have %g s to finish", drain.n_running, timeout_s)
    await _within(timeout_s, drain.empty(), signals)
    if drain.n_running:
        log.warning("stopping: %d requests are cut short", drain.n_running)
    for connection in server.connections:
        connection.stop_waiting()
    drain.cut()
    await _within(TELL_S, drain.empty(), signals)
    await _within(TELL_S, _gone(server), signals)
    for connection in list(server.connections):
        connection.abort()
    # This cancels the requests that were still sending, and their traces record it.
    await _within(TELL_S, drain.empty(), signals)
    if signals.hurried.is_set():
        app.ctx.service.hurry()
    if app.state.is_started:
        stopping = asyncio.ensure_future(server.before_stop())
        hurried = asyncio.ensure_future(_hurry(signals, app.ctx.service.hurry))
        await stopping
        hurried.cancel()
    app.shutdown_tasks(timeout=0)
    if closed is not None:
        await closed
    Sanic.unregister_app(app)


async def _gone(server: Any) -> None:
    """Close connections as they get idle, until none is left."""
    # Polled: connections end without telling.
    while server.connections:
        for connection in list(server.connections):
            connection.close_if_idle()
        await asyncio.sleep(POLL_S)


async def _hurry(signals: StopSignals, hurry: Callable[[], None]) -> None:
    await signals.hurried.wait()
    hurry()


async def _within(timeout_s: float, what: Awaitable[None], signals: StopSignals) -> None:
    """Wait for something, but not beyond its time, nor when there is no time left."""
    work = asyncio.ensure_future(what)
    hurried = asyncio.ensure_future(signals.hurried.wait())
    await asyncio.wait({work, hurried}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        # Always a moment: a request that ends at once by itself is not cut off.
        await asyncio.wait({work}, timeout=POLL_S)
    for task in (work, hurried):
        task.cancel()
    await asyncio.gather(work, hurried, return_exceptions=True)
