"""A fast BLAS for the tests that run a model; it has to be in the process before MLX."""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas

load_fast_blas()
