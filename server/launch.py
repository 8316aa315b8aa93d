"""Starts a server for `mlxdeck serve`: BLAS, engine, telemetry, then Sanic until a signal.

Only this module decides which engine runs. It imports MLX only after a fast BLAS is in the process;
no module that it needs before imports MLX. It is also the edge of the process: `serve` turns every
error before the ready line into one line and status 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from sanic import Sanic

from mlxdeck.server import log_format
from mlxdeck.server.admin.status import versions
from mlxdeck.server.app import create_app
from mlxdeck.server.backend_names import SMALL
from mlxdeck.server.backends.base import Announce, Backend, BackendInfo
from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Engine
from mlxdeck.server.backends.local.engine.hardware.requirements import cannot_load
from mlxdeck.server.backends.local.resources import Resources
from mlxdeck.server.backends.making import MakeLocal, make_backend
from mlxdeck.server.config.api_keys import readable_by_others
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import one_line
from mlxdeck.server.lifecycle.exit_status import STATUS_ENGINE_LOST
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt
from mlxdeck.server.lifecycle.shutdown import shut_down
from mlxdeck.server.lifecycle.stop_signals import StopSignals
from mlxdeck.server.observe.observer import (
    Emitter,
    UnknownProcessor,
    find_processors,
    open_emitter,
)
from mlxdeck.server.plug_ins import PlugInFault
from mlxdeck.server.service import Service
from mlxdeck.server.web.connection import Connection
from mlxdeck.settings.errors import SettingsError, UserError

log = logging.getLogger(__name__)

LEFT_OVER_S = 1.0
"""For threads to end that are through with their work."""
SWITCH_S = 1e-4
"""Switch interval of Python's threads in seconds. At its default of 5 ms, one thread that reads a
large schema delays each step of every other request by that much."""


def serve(settings: Settings, announce: Announce, at_end: Callable[[], None] = lambda: None) -> int:
    """Run until SIGINT or SIGTERM; return the exit status.

    The status is 1 if it could not start, and `STATUS_ENGINE_LOST` if the engine could not be kept
    running. It is 128 and the signal's number if a signal came before it was ready, or twice.
    `announce` gets a line for each step of loading, and that the server is ready, or why it cannot
    be. `at_end` is called once a server that was ready has written all its data.

    Raises:
        SettingsError: The port is taken, or the tool format unknown.
    """
    log_format.set_up(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_S)

    def say(line: str) -> None:
        # The reader of the output may have ended; that is no reason to stop.
        with suppress(OSError):
            announce(line)

    # A crash in a library's code then says where it was.
    if not faulthandler.is_enabled():
        faulthandler.enable()
    service: Service | None = None
    backend: Backend | None = None
    status = 1
    signals, before = StopSignals(), set(threading.enumerate())
    with _port(settings) as listener:
        try:
            with quiet_interrupt():
                backend = make_backend(settings, local_maker(settings))
                app = make_app(settings, backend, say)
            service = app.ctx.service
            with signals.caught():
                lost = asyncio.run(_run(app, settings, listener, signals))
            if lost:
                say(f"mlxdeck ends with status {STATUS_ENGINE_LOST}: {lost}")
            status = STATUS_ENGINE_LOST if lost else 0 if service.is_ready else 1
        except UserError:
            raise
        # The edge of the process: every exception before the server is ready arrives here.
        except (Exception, SystemExit) as error:
            log.debug("the start failed", exc_info=error)
            if not signals.first:
                say(f"mlxdeck cannot start: {one_line(error)}")
    if number := signals.repeated or (signals.first if status == 1 else 0):
        status = 128 + number
    if service and service.is_ready and not signals.repeated:
        with suppress(OSError):
            at_end()
    if (service and backend and backend.must_not_unload) or _hanging(before):
        logging.shutdown()
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    return status


def _hanging(before: set[threading.Thread]) -> bool:
    """Whether threads are left that Python would wait for at its end, for as long as they take."""
    until_s = time.monotonic() + LEFT_OVER_S
    ours = [each for each in threading.enumerate() if each not in before and not each.daemon]
    for thread in ours:
        thread.join(max(0.0, until_s - time.monotonic()))
    return any(thread.is_alive() for thread in ours)


def make_app(settings: Settings, backend: Backend, say: Announce) -> Sanic[Any, Any]:
    """Everything but the socket."""

    try:
        processors = find_processors(settings.telemetry_processors)
    except UnknownProcessor as error:
        raise UserError(f"telemetry_processors: {error}") from error

    def emitter(info: BackendInfo) -> Emitter:
        return open_emitter(
            settings.telemetry_folder if settings.telemetry else None,
            max_bytes=settings.telemetry_max_bytes,
            keep_files=settings.telemetry_keep_files,
            sample=settings.telemetry_sample,
            processors=processors,
            header=stream_header(settings, info),
        )

    if readable_by_others(settings):
        log.warning("%s can be read by other users of this machine", settings.api_key_file)
    try:
        app = create_app(settings, backend, emitter, say)
    except PlugInFault as fault:
        raise UserError(f"dialects: {fault}") from fault
    # The fast event loop, where there is one.
    app.setup_loop()
    return app


async def _run(
    app: Sanic[Any, Any], settings: Settings, listener: socket.socket, signals: StopSignals
) -> str:
    """Serve until a signal comes or the engine is lost; return the reason if it is lost.

    Raises any error that keeps the server from getting ready. It doesn't use `app.run`, which can
    only be stopped once it runs for ever. A model that fails before that would leave a server that
    never ends.
    """
    signals.attach()
    # In a terminal, Sanic would advise to use flags that aren't ours.
    os.environ["SANIC_IGNORE_PRODUCTION_WARNING"] = "1"
    service: Service = app.ctx.service
    # Nothing is accepted before there is a service that could say that it loads.
    server: Any = await app.create_server(
        sock=listener,
        access_log=False,
        protocol=Connection,
        asyncio_server_kwargs={"start_serving": False},
    )
    lost = ""
    with _own_executor():
        try:
            await server.startup()
            await server.before_start()
            try:
                await server.start_serving()
            except OSError as error:
                raise _taken(settings, error) from error
            await server.after_start()
            lost = await _until_stopped(service, signals)
            return lost
        finally:
            # While a model loads, no request is running.
            can_finish = service.is_ready and not lost
            await shut_down(app, server, signals, settings.stop_timeout_s if can_finish else 0.0)


async def _until_stopped(service: Service, signals: StopSignals) -> str:
    asked = asyncio.create_task(signals.asked.wait())
    first: set[asyncio.Future[Any]] = {service.loading, asked}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if signals.asked.is_set():
        return ""
    await service.loading
    # Present objects stay for ever: a full pass of the garbage collector need not visit them again.
    # It would stop every thread for a tenth of a second.
    gc.collect()
    gc.freeze()
    lost = service.backend.lost
    last: set[asyncio.Future[Any]] = {asked, lost}
    await asyncio.wait(last, return_when=asyncio.FIRST_COMPLETED)
    return str(lost.result()) if lost.done() else ""


@contextmanager
def _own_executor() -> Iterator[None]:
    """Threads for the loop, not awaited at the end: `asyncio.run` would wait for ever."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(thread_name_prefix="aside")
    loop.set_default_executor(executor)
    try:
        yield
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        loop.set_default_executor(ThreadPoolExecutor(1))


def local_maker(settings: Settings) -> MakeLocal:
    """Makes the model of this machine and the small one beside it, which share their resources."""
    resources, share = Resources(settings.prefix_cache_bytes), settings.small_model_share

    def make(small: bool) -> Backend:
        told, name = (settings.of_small_model, SMALL) if small else (settings, "")
        weight = share if small else 1.0 - share
        return LocalBackend(told, make_engine(told), resources, name=name, weight=weight)

    return make


def make_engine(settings: Settings) -> Engine:
    """The engine that the settings name."""
    if settings.engine == "echo":
        from mlxdeck.server.backends.local.engine.echo import EchoEngine

        return EchoEngine(prefill_chunk_tokens=settings.prefill_chunk_tokens)
    from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas, measure_gflops

    blas = load_fast_blas()
    try:
        from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
    except ImportError as error:
        raise UserError(cannot_load(error)) from error

    if blas.note:
        log.warning("%s: %s", blas.name, blas.note)
    elif blas.path:
        log.info("%s, %.0f GF/s in fp32 (%s)", blas.name, measure_gflops(), blas.path)
    return MlxEngine(
        settings.model,
        settings.home / "models",
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        context_tokens=settings.context_tokens,
        max_kv_tokens=settings.max_kv_tokens,
        chat_template=settings.chat_template,
        prompt_lookup=settings.prompt_lookup,
        forced_spans=settings.forced_spans,
        draft_model=settings.draft_model,
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
    """The first line of every telemetry file."""
    found = versions()
    return {
        "service_version": found["mlxdeck"],
        "mlx_version": found["mlx"],
        "server_address": settings.host,
        "server_port": settings.port,
        "capture": settings.capture,
        "model": info.name,
        "context_tokens": info.context_tokens or 0,
        "device": info.device,
        "host": platform.node(),
        "chip": platform.processor() or platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        **_kv_shape(info, settings.prefill_chunk_tokens),
        "cache_policy": settings.cache_policy,
        "disk_cache": settings.disk_cache,
        "exact_cache_entries": settings.exact_cache_entries,
        "answer_max_age_s": settings.answer_max_age_s,
        "canonical_off": tuple(filter(None, settings.canonical_off.split(","))),
    }


def _kv_shape(info: BackendInfo, chunk_tokens: int) -> dict[str, Any]:
    """What a KV state takes, by layers that keep all tokens and those that don't."""
    context = info.details.get("context", {})
    layers = context.get("kv_layers")
    if not layers:
        n_bytes = context.get("kv_bytes")
        is_told = n_bytes and info.context_tokens
        return {"kv_token_bytes": n_bytes / info.context_tokens} if is_told else {}
    # While a prompt is read, a chunk of it stands beside a window.
    windows = [(each, most - chunk_tokens) for each, most, _ in layers if most]
    return {
        "kv_token_bytes": sum(each for each, most, _ in layers if not most),
        "kv_window_tokens": max((window for _, window in windows), default=0),
        "kv_window_bytes": sum(each for each, _ in windows),
        "kv_fixed_bytes": sum(fixed for *_, fixed in layers),
    }
