"""A fast BLAS for MLX on Linux, loaded before MLX.

The CPU wheel of MLX links the reference BLAS. The dynamic linker uses the first definition of a
symbol. So a fast library replaces it if it is already in the process, with global symbols. It is 80
to 100 times as fast in fp32.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Blas:
    """Which library multiplies matrices."""

    name: str
    path: str = ""
    note: str = ""
    """What to do about a slow one; empty for a fast one."""


@cache
def load_fast_blas() -> Blas:
    """Load the best BLAS there is; must be called before `mlx.core` is imported."""
    if sys.platform == "darwin":
        return Blas("Metal and Accelerate")
    # MKL's own choice of threads is the fastest there is, so none of its variables is set.
    if found := _first_that_loads(_mkl()):
        return Blas("MKL", found)
    if _has_avx512():
        # OpenBLAS takes some virtual machines for a processor without it: a third of the speed.
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    if found := _first_that_loads(_openblas()):
        return Blas("OpenBLAS", found)
    remedy = "pip install mkl" if platform.machine() == "x86_64" else "apt install libopenblas0"
    return Blas("reference BLAS", note=f"the model will run up to 100 times slower; {remedy}")


def _first_that_loads(paths: list[str]) -> str:
    for path in paths:
        try:
            ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return path
    return ""


def _mkl() -> list[str]:
    """The runtime of PyPI's `mkl`, which its wheel puts into the environment's lib folder."""
    try:
        listed = files("mkl") or []
    except PackageNotFoundError:
        listed = []
    found = [str(Path(str(f.locate())).resolve()) for f in listed if "libmkl_rt.so" in f.name]
    return found or [str(path) for path in Path(sys.prefix, "lib").glob("libmkl_rt.so*")]


def _openblas() -> list[str]:
    name = ctypes.util.find_library("openblas")
    return [name] if name else []


def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def measure_gflops(n: int = 1024, rounds: int = 5) -> float:
    """Billions of fp32 operations a second in the product of two n x n matrices, best of a few."""
    import mlx.core as mx

    a = mx.ones((n, n))
    mx.eval(a @ a)
    best_s = float("inf")
    for _ in range(rounds):
        began_s = time.perf_counter()
        mx.eval(a @ a)
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * n**3 / best_s / 1e9
