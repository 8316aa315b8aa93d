"""Starts a server as `mlxdeck serve` does: BLAS, engine, telemetry, then Sanic until it is stopped.

The only module that decides which engine runs. MLX is imported in here, after a fast BLAS is in
the process, and nowhere on the way to here. It is also the process's edge: whatever goes wrong
between the start and the ready line ends up in `serve`, as one line and status 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from sanic import Sanic

from mlxdeck.server.admin.status import versions
from mlxdeck.server.app import create_app
from mlxdeck.server.backends.base import Announce, Backend, BackendInfo
from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Engine
from mlxdeck.server.config.api_keys import readable_by_others
from mlxdeck.server.config.settings import Settings, SettingsError, UserError
from mlxdeck.server.errors import one_line
from mlxdeck.server.log_format import EscapingFormatter
from mlxdeck.server.observe.observer import Emitter, open_emitter
from mlxdeck.server.service import Service
from mlxdeck.server.web.connection import Connection

log = logging.getLogger(__name__)

STATUS_ENGINE_LOST = 75
"""EX_TEMPFAIL of sysexits.h: the engine hangs or can't be rebuilt; starting again may help."""
DRAIN_S = 2.0
"""How long answers that are being sent may take once the server is told to stop."""


def serve(settings: Settings, announce: Announce) -> int:
    """Run until SIGINT or SIGTERM; return the exit status.

    1 if it was never ready, `STATUS_ENGINE_LOST` if the engine could not be kept running.
    `announce` is told, a line each, how loading goes and that the server is ready, or why it
    cannot be.

    Raises:
        SettingsError: The port is taken, or the tool format unknown.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])

    def say(line: str) -> None:
        # Whoever read it may have gone; that is no reason to stop.
        with suppress(OSError):
            announce(line)

    service: Service | None = None
    backend: LocalBackend | None = None
    status = 1
    with _port(settings) as listener:
        try:
            with _quiet_interrupt():
                backend = LocalBackend(settings, make_engine(settings))
                app = make_app(settings, backend, say)
            service = app.ctx.service
            lost = asyncio.run(_run(app, settings, listener))
            if lost:
                say(f"mlxdeck ends with status {STATUS_ENGINE_LOST}: {lost}")
            status = STATUS_ENGINE_LOST if lost else 0 if service.is_ready else 1
        except UserError:
            raise
        # The process's edge: whatever is raised before the server is ready ends up here.
        except (Exception, SystemExit) as error:
            log.debug("the start failed", exc_info=error)
            say(f"mlxdeck cannot start: {one_line(error)}")
    if service and backend and backend.must_not_unload:
        logging.shutdown()
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    return status


def make_app(settings: Settings, backend: Backend, say: Announce) -> Sanic[Any, Any]:
    """Everything but the socket."""

    def emitter(info: BackendInfo) -> Emitter:
        return open_emitter(
            settings.telemetry_folder if settings.telemetry else None,
            max_bytes=settings.telemetry_max_bytes,
            keep_files=settings.telemetry_keep_files,
            header=stream_header(settings, info),
        )

    if readable_by_others(settings):
        log.warning("%s can be read by other users of this machine", settings.api_key_file)
    app = create_app(settings, backend, emitter, say)
    # The fast event loop, where there is one.
    app.setup_loop()
    return app


async def _run(app: Sanic[Any, Any], settings: Settings, listener: socket.socket) -> str:
    """Serve until a signal comes or the engine is lost; return why, if it is.

    Raises what keeps the server from getting ready.
    Not `app.run`, which can only be stopped once it has come to run for ever: a model that fails
    before that would leave a server that never ends.
    """
    told = asyncio.Event()
    # A terminal that closes; who was started with nohup stays.
    closing = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    for number in (signal.SIGINT, signal.SIGTERM, *closing):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    # Nothing is accepted before there is a service that could say that it loads.
    server: Any = await app.create_server(
        sock=listener,
        access_log=False,
        protocol=Connection,
        asyncio_server_kwargs={"start_serving": False},
    )
    try:
        await server.startup()
        await server.before_start()
        try:
            await server.start_serving()
        except OSError as error:
            raise _taken(settings, error) from error
        await server.after_start()
        loading, stopping = app.ctx.service.loading, asyncio.create_task(told.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if told.is_set():
            return ""
        await loading
        lost = app.ctx.service.backend.lost
        await asyncio.wait({stopping, lost}, return_when=asyncio.FIRST_COMPLETED)
        return str(lost.result()) if lost.done() else ""
    finally:
        await _stop(app, server)


async def _stop(app: Sanic[Any, Any], server: Any) -> None:
    """End what runs, give answers a moment to get out, and cut what is left."""
    if app.state.is_started:
        await server.before_stop()
    closed = server.close()
    for connection in list(server.connections):
        connection.close_if_idle()
    until_s = time.monotonic() + DRAIN_S
    # Polled: connections end without telling.
    while server.connections and time.monotonic() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    app.shutdown_tasks(timeout=0)
    for connection in list(server.connections):
        connection.abort()
    await closed
    Sanic.unregister_app(app)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Let Ctrl+C end the process at once: there is nothing to be saved while MLX is imported.

    A `KeyboardInterrupt` in the middle of an import can come out as any other error.
    """

    def leave(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_engine(settings: Settings) -> Engine:
    """The engine that the settings name."""
    if settings.engine == "echo":
        from mlxdeck.server.backends.local.engine.echo import EchoEngine

        return EchoEngine(prefill_chunk_tokens=settings.prefill_chunk_tokens)
    from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas, measure_gflops

    blas = load_fast_blas()
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine

    if blas.note:
        log.warning("%s: %s", blas.name, blas.note)
    elif blas.path:
        log.info("%s, %.0f GF/s in fp32 (%s)", blas.name, measure_gflops(), blas.path)
    return MlxEngine(
        settings.model,
        settings.home / "models",
        max_batch=settings.max_batch,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        context_tokens=settings.context_tokens,
        max_kv_tokens=settings.max_kv_tokens,
        chat_template=settings.chat_template,
    )


@contextmanager
def _port(settings: Settings) -> Iterator[socket.socket]:
    """The port, held from before a model is loaded in vain; it listens once the server runs.

    Raises:
        SettingsError: It is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host.strip("[]"), settings.port))
        except OSError as error:
            raise _taken(settings, error) from error
        yield listener


def _taken(settings: Settings, error: OSError) -> SettingsError:
    return SettingsError(
        f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
        "is a server running already? Choose another with --port"
    )


def stream_header(settings: Settings, info: BackendInfo) -> dict[str, Any]:
    """What the first line of every telemetry file says."""
    found = versions()
    return {
        "service_version": found["mlxdeck"],
        "mlx_version": found["mlx"],
        "server_address": settings.host,
        "server_port": settings.port,
        "capture": settings.capture,
        "model": info.name,
        "context_tokens": info.context_tokens,
        "device": info.device,
        "host": platform.node(),
        "chip": platform.processor() or platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
