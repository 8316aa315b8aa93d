"""A fast BLAS for the tests that run a model; it has to be in the process before MLX."""

from __future__ import annotations

import pytest

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas

load_fast_blas()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random model with the built-in model's tokenizer."""
    from tests.zoo.models import small_smollm2

    return str(small_smollm2(tmp_path_factory.mktemp("models") / "small"))
