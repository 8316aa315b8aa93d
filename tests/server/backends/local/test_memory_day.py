"""A simulated quarter of an hour of a busy Mac, with too little memory for all that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxdeck.server.config.settings import Settings
from tests.bench.memory_day import MemoryDay
from tests.bench.memory_report import Report, part_of
from tests.bench.sized_engine import GB, Machine
from tests.corpora.day.requests import Outcome

SMALL = replace(Machine(), usable_bytes=Machine().model_bytes + 15 * GB)


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a quarter of an hour of three people, their agents and their scripts."""
    return MemoryDay(0.25, 3, 3, SMALL, Settings()).run()


def test_no_request_fails_for_want_of_memory(report: Report) -> None:
    """All are answered but those that leave, are malformed or longer than the window."""
    assert report.outcomes[Outcome.OK] > 200
    assert not report.outcomes[Outcome.FAILED]
    assert not report.outcomes[Outcome.DOWN]


def test_neither_caches_nor_sequences_pass_their_limits(report: Report) -> None:
    """Caches have half of the memory; those that are let in have what is left, with padding."""
    assert report.evicted.get("room", 0) > 20  # There was pressure at all.
    assert 0 < report.peaks.stored <= SMALL.kv_limit_bytes // 2
    assert 0 < report.peaks.running <= SMALL.kv_limit_bytes
    # Also in the middle of a step, while a batch is put together or a state is kept.
    assert report.peaks.between_steps <= report.meter.peak_bytes <= SMALL.kv_limit_bytes
    assert report.peaks.running < report.peaks.between_steps


def test_eight_bits_hold_more(report: Report) -> None:
    """What is quiet takes half, no block is quantised twice, and nothing passes the limit."""
    settings = Settings(kv_8bit=True)
    eight_bits = MemoryDay(0.1, 3, 3, SMALL, settings).run()
    peaks = eight_bits.peaks
    assert 0.5 * peaks.stored < peaks.quantized <= peaks.stored <= SMALL.kv_limit_bytes // 2
    assert eight_bits.meter.peak_bytes <= SMALL.kv_limit_bytes
    assert not eight_bits.outcomes[Outcome.FAILED]
    assert not report.peaks.quantized


def test_little_is_forgotten(report: Report) -> None:
    """Of what an unlimited cache would know, most is known in one that is far too small."""
    assert report.prompt_tokens > 1_000_000
    assert 0.7 * report.best_hit_rate < report.hit_rate < report.best_hit_rate


def test_small_requests_are_read_soon(report: Report) -> None:
    """Most of them in the next steps, whatever large ones are there; only memory makes them wait.

    Requests of a script that come by the dozen wait for one another.
    """
    steps = sorted(each.steps for each in report.of_size(0, 512))
    assert len(steps) > 30
    assert part_of(steps, 0.5) <= 2
    assert part_of(steps, 0.8) <= 4


def test_a_seed_decides_everything() -> None:
    """Two runs of one seed are equal, to the byte and the step."""
    one, same, other = (MemoryDay(0.05, seed, 3, SMALL, Settings()).run() for seed in (1, 1, 2))
    assert (one.n_steps, one.meter.peak_bytes) == (same.n_steps, same.meter.peak_bytes)
    assert one.n_steps != other.n_steps
