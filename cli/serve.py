"""Run the server in this terminal. It prints one line when it is ready."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from mlxdeck.server.config.settings import add_flags, from_args
from mlxdeck.server.stop_signals import quiet_interrupt

EXAMPLE = "mlxdeck serve --model mlx-community/Qwen3-8B-4bit --port 8082"
add = add_flags


def run(args: Namespace) -> int:
    with quiet_interrupt():
        from mlxdeck.server.launch import serve

        return serve(from_args(args), partial(print, flush=True))
