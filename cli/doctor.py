"""Check this machine and the model. For each problem, show how to fix it."""

from __future__ import annotations

from argparse import Namespace

from mlxdeck.server.config.settings import add_flags, from_args

EXAMPLE = "mlxdeck doctor --model mlx-community/Qwen3-8B-4bit"
add = add_flags


def run(args: Namespace) -> int:
    from mlxdeck.server.ops.doctor import report

    return report(from_args(args), print)
