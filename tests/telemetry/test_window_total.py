"""What is added up in parts equals what is computed at once, and looks at each request once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze import time_series, window_total
from mlxdeck.telemetry.analyze.stats import WINDOWS, SummarySums, Window, summary
from mlxdeck.telemetry.analyze.time_grid import first_run
from mlxdeck.telemetry.analyze.time_series import EVERYTHING, TimeSeries, View
from mlxdeck.telemetry.analyze.window_total import AtOnce, Total, in_parts
from mlxdeck.telemetry.analyze.window_uses import UsesSums, WindowUses, window_uses
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.telemetry.query.growing_mask import GrowingMask
from mlxdeck.telemetry.store.store import Store
from tests.streams import START_TS, Made, fed
from tests.telemetry.test_store import made_requests

PART = 5


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time_series, "PART_ROWS", PART)
        patched.setattr(window_total, "PART_ROWS", PART)
        yield


def untimed(uses: WindowUses) -> WindowUses:
    """All but the time that was saved."""
    return dataclasses.replace(uses, saved=dataclasses.replace(uses.saved, seconds=0.0))


@given(
    steps=st.lists(st.lists(made_requests, max_size=12), min_size=1, max_size=4),
    window=st.sampled_from([WINDOWS[2], WINDOWS[-1]]),
    look_back=st.integers(1, 3),
    wanted=st.sampled_from(["", "tool:Read", "latency>1s"]),
    n_between=st.integers(0, 3),
)
@settings(max_examples=40)
def test_parts_equal_the_whole(
    steps: list[list[Made]], window: Window, look_back: int, wanted: str, n_between: int
) -> None:
    """Also when more requests come between two parts, early ones and late ones."""
    store, total, uses, kept = Store(), Total(SummarySums), Total(UsesSums), TimeSeries(look_back)
    mask = GrowingMask(store, parse(wanted))
    for now_s in fed(store, steps):
        for _ in range(n_between):
            # Some parts are added up, the rest after the next step.
            view = View(mask.at(now_s), (wanted, mask.key(now_s))) if wanted else EVERYTHING
            total.advance(store, window, now_s, view)
            uses.advance(store, window, now_s, view)
            kept.advance(store, window, now_s, 20, view)
    view = View(mask.at(now_s), (wanted, mask.key(now_s))) if wanted else EVERYTHING
    chosen = view.mask
    # NaN equals NaN where both are shown alike.
    assert repr(total.at(store, window, now_s, view)) == repr(summary(store, window, now_s, chosen))
    parts, whole = uses.at(store, window, now_s, view), window_uses(store, window, now_s, chosen)
    # A sum of seconds depends in its last digit on the order.
    assert parts.saved.seconds == pytest.approx(whole.saved.seconds, nan_ok=True)
    assert untimed(parts) == untimed(whole)
    anew = TimeSeries(look_back).series(store, window, now_s, 20, view)
    got = kept.series(store, window, now_s, 20, view)
    for field in dataclasses.fields(anew):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(anew, field.name))


def test_only_what_is_new_is_added() -> None:
    """In parts of a few requests, and after that those alone that ended since."""
    store, total, series = Store(), Total(SummarySums), TimeSeries()
    grown, kept = Store(), Total(SummarySums)
    made = [Made(float(n)) for n in range(3 * PART)]
    list(fed(store, [made]))
    asked = (store, WINDOWS[-1], START_TS + 3 * PART)
    assert [total.advance(*asked) for _ in range(4)] == [False, False, False, True]
    assert len(list(in_parts(lambda: series.advance(*asked, PART)))) > 1
    assert series.n_looked == series.series(*asked, PART).n.sum() > 2 * PART
    assert total.n_added == 3 * PART
    for now_s in fed(grown, [made, [Made(3 * PART + 0.5)]]):
        kept.at(grown, WINDOWS[-1], now_s + 20)
    assert kept.n_added == 3 * PART + 1


def test_what_can_not_be_added_up_is_found_again_when_it_changes() -> None:
    """Once a version, and at once."""
    store, numbers = Store(), itertools.count()
    list(fed(store, [[Made(1.0)]]))
    total = Total(lambda: AtOnce(lambda *_: next(numbers)))
    found = [total.at(store, WINDOWS[-1], START_TS + 9, version=each) for each in (1, 1, 2)]
    assert found == [0, 0, 1]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1), st.integers(1, 9))
def test_a_run_is_short_enough_or_one_bucket(
    buckets: list[tuple[bool, int]], max_rows: int
) -> None:
    """It begins with the first bucket that is set, and holds none that isn't."""
    flags = np.array([flag for flag, _ in buckets])
    edges = np.concatenate([[0], np.cumsum([n for _, n in buckets])])
    run = first_run(flags, edges, max_rows)
    assert (run is None) == (not flags.any())
    if run is not None:
        first, last = run
        assert flags[first : last + 1].all() and not flags[:first].any()
        assert last == first or edges[last + 1] - edges[first] <= max_rows
