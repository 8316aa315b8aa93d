"""The dots of the chart of latency, counted cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.scatter import KINDS, Array, Scatter
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window, bounds
from mlxdeck.telemetry.analyze.time_series import View
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.state.request_query import RequestQuery
from tests.streams import START_TS, Made, Stream, fed
from tests.telemetry.test_stats import made_requests

N_ROWS, N_COLUMNS = 6, 20


def row_of(latencies: Array) -> Array:
    """Whole seconds, from below."""
    return np.minimum(latencies, N_ROWS - 1).astype(np.int64)


@settings(max_examples=40)
@given(
    st.lists(made_requests, min_size=1, max_size=4),
    st.sampled_from(WINDOWS),
    st.booleans(),
)
def test_dots_that_are_kept_up_equal_those_made_anew(
    steps: list[list[Made]], window: Window, filtered: bool
) -> None:
    """One for each request of the window, whatever came before."""
    store, kept = Store(), Scatter()
    listing = RequestQuery(store)
    listing.set("status:ok" if filtered else "")
    for now_ts in fed(store, steps):
        kept.look(store, window, now_ts, N_COLUMNS, listing.view_at())
        anew = Scatter()
        anew.look(store, window, now_ts, N_COLUMNS, View(listing.mask))
        got = kept.cells("same", N_ROWS, row_of)
        np.testing.assert_array_equal(got, anew.cells("same", N_ROWS, row_of))
        np.testing.assert_array_equal(got.sum(axis=1), kept.columns)
        start_ts, _ = bounds(store, window, now_ts)
        # The first column may begin a little before the window, or after it.
        cell_s = (now_ts - start_ts) / N_COLUMNS
        inside = [
            store.by_end.between(ts, now_ts) for ts in (start_ts + 1.1 * cell_s, start_ts - cell_s)
        ]
        mask = listing.mask
        most, least = (len(r if mask is None else r[mask[r]]) for r in reversed(inside))
        assert least <= got.sum() <= most
        latencies = store.column("duration_s")[inside[1]]
        assert not got.sum() or kept.ends[1] in latencies


def test_each_dot_says_what_came_of_its_request() -> None:
    """Answers by what the cache gave, errors, and what was cut off."""
    stream, store, scatter = Stream(), Store(), Scatter()
    made = [
        Made(1, 2.0, cache="exact"),
        Made(2, 3.0, cache="prefix"),
        Made(3, 4.0, cache="miss"),
        Made(4, 1.0, cache=""),
        Made(5, 9.0, outcome="error", cache="miss"),
        Made(6, 0.5, outcome="cancelled"),
    ]
    lines = b"".join(line for n, each in enumerate(made) for line in stream.request(each, n))
    found = batch(Path("f"), lines)
    store.feed([found] if found else [])
    scatter.look(store, WINDOWS[0], START_TS + 7, N_COLUMNS)
    cells = scatter.cells(0, N_ROWS, row_of)
    told = dict(zip(KINDS, cells.sum(axis=2).argmax(axis=1).tolist(), strict=True))
    assert told["exact"] == 2 and told["prefix"] == 3 and told["error"] == N_ROWS - 1
    assert dict(zip(KINDS, scatter.columns.sum(axis=1).tolist(), strict=True)) == {
        "exact": 1, "prefix": 1, "miss": 2, "error": 1, "cut off": 1,
    }  # fmt: skip
    assert scatter.ends == (0.5, 9.0)
