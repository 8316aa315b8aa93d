"""Two periods compared: what chance makes is no regression, and what is one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxdeck.telemetry.analyze.comparison import N_DRAWS, Comparison, compare, drawn_quantiles
from mlxdeck.telemetry.analyze.comparison_text import comparison_lines
from mlxdeck.telemetry.analyze.periods import everything
from mlxdeck.telemetry.analyze.stats import nearest_rank
from tests.streams import NAME, Made, read_streams, write


def drawn(folder: Path, seed: int, times: float = 1.0, failing: float = 0.0, n: int = 300) -> Path:
    """A stream of requests whose durations are drawn with a long tail."""
    chance = np.random.default_rng(seed)
    durations = times * chance.lognormal(0, 0.8, n)
    outcomes = np.where(chance.random(n) < failing, "error", "ok")
    made = [
        Made(10.0 * (number + 1), float(each), outcome=str(outcome), cached_tokens=50)
        for number, (each, outcome) in enumerate(zip(durations, outcomes, strict=True))
    ]
    folder.mkdir()
    return write(folder / NAME, made)


def compared(before: Path, now: Path) -> Comparison:
    sides = [read_streams([path]) for path in (before, now)]
    return compare(*((store, everything(store)) for store in sides))  # type: ignore[arg-type]


def test_chance_is_no_regression(tmp_path: Path) -> None:
    """Eight pairs of the same traffic: at most as many alarms as the level allows."""
    paths = [drawn(tmp_path / str(seed), seed) for seed in range(9)]
    found = [compared(one, other) for one, other in zip(paths, paths[1:], strict=False)]
    alarms = sum(any(each.verdict in ("worse", "better") for each in one.differences)
                 for one in found)  # fmt: skip
    assert alarms <= 1


def test_a_regression_is_found_with_its_interval(tmp_path: Path) -> None:
    """Half as slow again, and one in ten fails; the way back is better."""
    before, now = drawn(tmp_path / "a", 1), drawn(tmp_path / "b", 2, 1.5, 0.1)
    found = compared(before, now)
    worse = {(each.name, each.rank) for each in found.worse}
    assert {("duration", 50), ("ttft", 50), ("error_rate", 0)} <= worse
    for each in found.worse:
        assert each.low <= each.change <= each.high and (each.low > 0)
    assert compared(now, before).worse == []
    assert repr(compared(before, now)) == repr(found)
    text = "\n".join(comparison_lines(found))
    assert "whole request P50" in text and "worse" in text


def test_few_requests_say_nothing(tmp_path: Path) -> None:
    """However different they are."""
    before, now = drawn(tmp_path / "a", 1, n=8), drawn(tmp_path / "b", 2, 9.0, n=8)
    assert {each.verdict for each in compared(before, now).differences} == {"unknown"}


@pytest.mark.parametrize("rank", [50, 95])
def test_quantiles_are_drawn_as_from_samples(rank: int) -> None:
    """The short cut has the distribution of quantiles of samples that were really drawn."""
    chance = np.random.default_rng(3)
    values = np.sort(chance.lognormal(0, 1, 80))
    short = drawn_quantiles(values, rank, chance)
    samples = values[chance.integers(0, 80, (N_DRAWS, 80))]
    real = np.array([nearest_rank(each, (rank,))[0] for each in samples[:4000]])
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        within = np.mean(short <= np.quantile(real, share))
        assert within == pytest.approx(np.mean(real <= np.quantile(real, share)), abs=0.03)
