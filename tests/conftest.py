"""Keeps every test away from the machine it runs on."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests import loaded_once

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers with a thread a core each would wait for one another. Read when BLAS is loaded.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# In front of the first import of MLX by any test; behind it, MLX stays a dozen times as slow.
assert "mlx.core" not in sys.modules
load_fast_blas()

# The machine may be shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# Looked up before any test has another home: what tests download is kept between runs.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay: no collection has to look at them again.

    A dashboard is a hundred thousand objects. With Python's own thresholds, half of its tests' time
    went into looking through all of them some forty times.
    """
    if "mlx_lm" in sys.modules:
        loaded_once.install()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that aren't there yet. pytest's own way to number them reads the names of all."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home for each test, so that none reads or writes what the developer has there."""
    home = next(homes)
    home.mkdir(mode=0o700)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    monkeypatch.setenv("MLXDECK_HOME", str(home / "mlxdeck"))
    return home


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """A test that runs a server in this process changes what is logged for nobody else."""
    ours = logging.getLogger("mlxdeck")
    level = ours.level
    yield
    ours.setLevel(level)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the developer's environment."""
    for name in os.environ:
        if name.startswith("MLXDECK_") and not name.startswith(("MLXDECK_TEST", "MLXDECK_HOME")):
            monkeypatch.delenv(name)
