"""What holds when requests, caches and threads meet at random; and that its lack is noticed.

`MLXDECK_TEST_SEEDS=1000` tries so many instead of a few.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.server.concurrency.driver import Driver, Violation
from tests.server.concurrency.old_faults import OLD_FAULTS, Plant

N_ROUNDS = 40
N_SEEDS = int(os.environ.get("MLXDECK_TEST_SEEDS", "3"))
MAX_SEEDS = 12
"""So many are tried until a fault is found."""


@pytest.mark.parametrize("seed", range(N_SEEDS))
async def test_it_holds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers, ends, leases, bytes and files, whatever comes between."""
    await Driver(tmp_path, seed, monkeypatch).run(N_ROUNDS)


@pytest.mark.parametrize("fault", OLD_FAULTS, ids=lambda fault: fault.__name__)
async def test_an_old_fault_is_found(
    tmp_path: Path, fault: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted again, each breaks something that is looked at."""
    seen, places = OLD_FAULTS[fault]
    for seed in range(MAX_SEEDS):
        with monkeypatch.context() as patched:
            fault(patched)
            try:
                await Driver(tmp_path / str(seed), seed, monkeypatch, places).run(N_ROUNDS)
            except Violation as violation:
                assert re.search(seen, str(violation))
                return
    pytest.fail(f"it was not found with {MAX_SEEDS} seeds")
