"""Starts a server as `mlxdeck serve` does: BLAS, engine, telemetry, then Sanic until it is stopped.

The only module that decides which engine runs. MLX is imported in here, after a fast BLAS is in
the process, and nowhere on the way to here.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from typing import Any

from mlxdeck.server.app import Announce, create_app
from mlxdeck.server.engine import Engine, ModelInfo
from mlxdeck.server.observe import Emitter, open_emitter
from mlxdeck.server.service import versions
from mlxdeck.server.settings import Settings, SettingsError

log = logging.getLogger(__name__)


def serve(settings: Settings, announce: Announce) -> int:
    """Run until SIGINT or SIGTERM; return the exit status.

    `announce` is told, a line each, how loading goes and that the server is ready.

    Raises:
        SettingsError: The port is taken, or the tool format unknown.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _check_port(settings)

    def emitter(info: ModelInfo) -> Emitter:
        return open_emitter(
            settings.telemetry_folder if settings.telemetry else None,
            max_bytes=settings.telemetry_max_bytes,
            keep_files=settings.telemetry_keep_files,
            header=stream_header(settings, info),
        )

    app = create_app(settings, make_engine(settings), emitter, announce)
    app.run(
        host=settings.host,
        port=settings.port,
        single_process=True,
        motd=False,
        access_log=False,
    )
    return 1 if app.ctx.service.failed else 0


def make_engine(settings: Settings) -> Engine:
    """The engine that the settings name."""
    if settings.engine == "echo":
        from mlxdeck.server.engine.echo import EchoEngine

        return EchoEngine(prefill_chunk_tokens=settings.prefill_chunk_tokens)
    from mlxdeck.server.engine.blas import load_fast_blas, measure_gflops

    blas = load_fast_blas()
    from mlxdeck.server.engine.mlx import MlxEngine

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
    )


def _check_port(settings: Settings) -> None:
    """Say in plain words that the port is taken, before a model is loaded in vain."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host.strip("[]"), settings.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "is a server running already? Choose another with --port"
            ) from error


def stream_header(settings: Settings, info: ModelInfo) -> dict[str, Any]:
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
