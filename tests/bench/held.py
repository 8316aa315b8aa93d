"""What constrained decoding costs, on the built-in model."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.real import get, serving


def held_to_grammars() -> None:
    """MLX is imported once the fast BLAS is loaded."""
    load_fast_blas()
    from tests.bench.grammars import grammars

    with serving() as server:
        folder = Path(get(f"{server.url}/v1/status")["model_path"])
    grammars(folder)
