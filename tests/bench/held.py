"""What constrained decoding costs, on the built-in model."""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.real import models_home


def held_to_grammars() -> None:
    """MLX is imported once the fast BLAS is loaded."""
    load_fast_blas()
    from mlxdeck.server.backends.local.engine.models.loader import resolve
    from tests.bench.grammars import grammars

    grammars(resolve("smollm2", models_home(), lambda _: None).path)
