"""Which BLAS is taken, and that asking for it costs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.engine.hardware import blas

PKG = Path(__file__).parents[5] / ".pkg"
choose = blas.load_fast_blas.__wrapped__
"""Without the memory of what was loaded."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux, with no variable set; what a test sets is undone."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "")
    monkeypatch.delenv("OPENBLAS_CORETYPE")


@pytest.fixture
def loadable(tmp_path: Path) -> str:
    """A library that is on every machine: the interpreter's own, or the process itself."""
    code = "import _ctypes; print(_ctypes.__file__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_second_call_loads_nothing() -> None:
    """Whoever comes first decides; the rest are told."""
    assert blas.load_fast_blas() is blas.load_fast_blas()


def test_mlx_is_not_imported_by_it() -> None:
    """It has to be in the process before MLX is."""
    code = (
        "import sys;"
        "from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas; "
        "load_fast_blas();"
        "assert not any(name.partition('.')[0] == 'mlx' for name in sys.modules)"
    )
    environ = os.environ | {"PYTHONPATH": str(PKG)}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)


def test_mac_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal and Accelerate are fast as they are."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose() == blas.Blas("Metal and Accelerate")


@pytest.mark.usefixtures("environment")
def test_mkl_comes_first(monkeypatch: pytest.MonkeyPatch, loadable: str) -> None:
    """A file that doesn't load is passed over, and OpenBLAS's variable is left alone."""
    monkeypatch.setattr(blas, "_mkl", lambda: ["/nonexistent/libmkl_rt.so.3", loadable])
    monkeypatch.setattr(blas, "_openblas", lambda: [loadable])
    monkeypatch.setattr(blas, "_has_avx512", lambda: True)
    assert choose() == blas.Blas("MKL", loadable)
    assert "OPENBLAS_CORETYPE" not in os.environ


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("avx512", "wanted"), [(True, "SkylakeX"), (False, None)])
def test_openblas_is_told_the_processor(
    avx512: bool, wanted: str | None, monkeypatch: pytest.MonkeyPatch, loadable: str
) -> None:
    """Only where it could run the code that it is told to run."""
    monkeypatch.setattr(blas, "_mkl", lambda: [])
    monkeypatch.setattr(blas, "_openblas", lambda: [loadable])
    monkeypatch.setattr(blas, "_has_avx512", lambda: avx512)
    assert choose() == blas.Blas("OpenBLAS", loadable)
    assert os.environ.get("OPENBLAS_CORETYPE") == wanted


@pytest.mark.usefixtures("environment")
def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch, loadable: str) -> None:
    """Their processor is theirs to name."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    monkeypatch.setattr(blas, "_mkl", lambda: [])
    monkeypatch.setattr(blas, "_openblas", lambda: [loadable])
    monkeypatch.setattr(blas, "_has_avx512", lambda: True)
    choose()
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("machine", "remedy"), [("x86_64", "pip install mkl"), ("aarch64", "apt install libopenblas0")]
)
def test_without_any_the_note_says_how_to_get_one(
    machine: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MKL is for x86-64 alone."""
    monkeypatch.setattr(blas, "_mkl", lambda: [])
    monkeypatch.setattr(blas, "_openblas", lambda: [])
    monkeypatch.setattr("platform.machine", lambda: machine)
    found = choose()
    assert (found.name, found.path) == ("reference BLAS", "")
    assert remedy in found.note


def test_speed_is_measured() -> None:
    """A number; which one is the machine's affair."""
    assert blas.measure_gflops(n=64, rounds=1) > 0
