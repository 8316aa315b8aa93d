"""What several tests run on: a small model."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random model with the built-in model's tokenizer."""
    from tests.zoo.models import small_smollm2

    return str(small_smollm2(tmp_path_factory.mktemp("models") / "small"))
