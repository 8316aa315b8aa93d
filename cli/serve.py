"""Run the server in this terminal. It prints one line when it is ready."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from functools import partial

from mlxdeck.cli.settings import add_model, add_server_flags, server_settings
from mlxdeck.server.lifecycle.interrupts import quiet_interrupt

EXAMPLE = "mlxdeck serve --model mlx-community/Qwen3-8B-4bit --port 8082"


def add(parser: ArgumentParser) -> None:
    add_model(parser)
    add_server_flags(parser)


def run(args: Namespace) -> int:
    with quiet_interrupt():
        from mlxdeck.server.launch import serve
        from mlxdeck.telemetry.analyze.session_summary import summary_of

    settings, began_ts = server_settings(args), time.time()
    say = partial(print, flush=True)

    def tell() -> None:
        if settings.telemetry:
            say(
                "\n".join(
                    summary_of(settings.telemetry_folder, began_ts, time.time(), settings.port)
                )
            )

    return serve(settings, say, tell)
