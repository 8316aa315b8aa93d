"""What the dashboard draws, held against the recordings' lines: texts of tiles, dots and lanes.

Only what a reader sees is taken from the dashboard. What it should be is computed from the lines,
with nothing of telemetry/ or tui/.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.request_lanes import AgentLanes
from mlxdeck.telemetry.analyze.request_spans import MAX_SPANS, request_spans
from mlxdeck.telemetry.analyze.scatter import Scatter
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window, summary
from mlxdeck.telemetry.analyze.time_series import TimeSeries
from mlxdeck.telemetry.analyze.token_flow import output_tokens_per_s
from mlxdeck.telemetry.analyze.window_uses import window_uses
from mlxdeck.tui.present.charts import CHARTS
from mlxdeck.tui.present.tiles import tile_values
from mlxdeck.tui.state.request_query import RequestQuery
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.scale import Axis, Scale
from tests import recomputed as again
from tests.recomputed import DURATION, Asked, Known, Predicate
from tests.telemetry.test_dashboard_recomputed import FILTERS, both, bounds, exactly, looks

SECONDS = Axis(fmt.tick, fmt.duration, of_time=True)


def fault(n: int) -> str:
    """A count that should be 0, and its mark."""
    return f"{again.count_text(n)} !" if n else "0"


def few(seconds: float, n: int, needed: int) -> str:
    """A percentile, marked where it is of too few."""
    return again.seconds_text(seconds) + (" ~" if 0 < n < needed else "")


def tiles(known: Known, window: Window, now_s: float, wanted: Predicate) -> dict[str, str]:
    """Every tile's text."""
    ended = known.ended(*bounds(known, window, now_s), wanted)
    total, made = again.totals(ended), again.calls(ended, known.results).values()
    tokens, saved_s = again.saved(ended, known.ended(-math.inf, now_s, lambda _: True))
    n_written, _ = again.tokens_between(known, now_s - 10, now_s, wanted)
    codes = [each.told("http.response.status_code") for each in ended if each.outcome == "error"]
    n_results, n_failed = (
        sum(getattr(each, name) for each in made) for name in ("n_results", "n_failed")
    )
    failed = f"{n_failed}/{n_results}" + (" !" if n_failed else "") if n_results else "–"
    per_s = n_written / 10
    found = {
        "requests": again.count_text(total.n_requests),
        "errors": fault(total.n_errors),
        "refused": fault(sum(code in (429, 503, 529) for code in codes)),
        "P50": again.seconds_text(total.durations[0]),
        "P95": few(total.durations[1], total.n_answers, 20),
        "P99": few(total.durations[2], total.n_answers, 100),
        "TTFT": again.seconds_text(total.ttft_p50),
        "tok/s": again.digits(per_s, 1) if 0 < per_s < 99.95 else again.count_text(per_s),
        "hit rate": again.share_text(total.exact + total.prefix),
        "exact": again.share_text(total.exact),
        "prefix": again.share_text(total.prefix),
        "tokens saved": again.count_text(tokens),
        "time saved": again.seconds_text(saved_s),
        "calls": again.count_text(sum(each.n for each in made)),
        "failed": failed,
        "unreadable": fault(sum(each.n_unreadable for each in made)),
        "dropped": fault(dropped(known)),
    }
    if now := again.ticked(known, now_s):
        queued = sum(each.get("mlx.queued", 0) for each in now)
        limits = [each["mlx.queued.limit"] for each in now if "mlx.queued.limit" in each]
        is_full = bool(limits) and queued >= 0.9 * sum(limits)
        found["running"] = f"{sum(each.get('mlx.active', 0) for each in now):,}"
        found["queue"] = f"{queued:,}" + (f"/{sum(limits)}" if limits else "")
        found["queue"] += " !" if queued and is_full else ""
        n_bytes = sum(each.get("mlx.memory.active_bytes", 0) for each in now)
        found["memory"] = again.bytes_text(n_bytes)
    return found


def dropped(known: Known) -> int:
    """Lines that servers say they could not write."""
    most: dict[int, int] = {}
    for tick in known.ticks:
        n = tick["attrs"].get("mlx.telemetry.dropped_total", 0)
        most[tick["pid"]] = max(n, most.get(tick["pid"], 0))
    return sum(most.values())


@exactly
@given(looks(), st.sampled_from(WINDOWS))
def test_tiles_say_what_the_lines_say(look: tuple[str, float, str], window: Window) -> None:
    """To the letter, those of ticks too, at any moment; live and in a replay alike."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        listing = RequestQuery(store)
        listing.set(text)
        view = listing.view_at(now_s)
        got = tile_values(
            store,
            summary(store, window, now_s, view.mask),
            window_uses(store, window, now_s, view.mask),
            TimeSeries().series(store, window, now_s, 10, view),
            now_s,
            output_tokens_per_s(store, now_s, view.mask),
            window.label,
        )
        texts = {tile: value.text.removesuffix(" !") if tile == "memory" else value.text
                 for tile, value in got.items()}  # fmt: skip
        assert texts == tiles(known, window, now_s, FILTERS[text])


def kind_of(each: Asked) -> int:
    """Which dot a request is."""
    if each.outcome == "error":
        return 3
    kinds = {"exact": 0, "prefix": 1}
    return kinds.get(each.told("mlx.cache.result", ""), 2) if each.outcome == "ok" else 4


@settings(exactly, max_examples=60)
@given(looks(), st.sampled_from(WINDOWS), st.integers(4, 90), st.integers(3, 30))
def test_each_dot_stands_at_its_time_and_its_latency(
    look: tuple[str, float, str], window: Window, width: int, height: int
) -> None:
    """Zero is the lowest row of dots, the top the highest; columns are equally long."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        listing, scatter = RequestQuery(store), Scatter()
        listing.set(text)
        made = TimeSeries().series(store, window, now_s, width, listing.view_at(now_s))
        scatter.look(store, window, now_s, width, listing.view_at(now_s))
        drawn = CHARTS["latency"].draw(
            made, summary(store, window, now_s, listing.view_at(now_s).mask), scatter
        )
        asked = [
            (each, int(each.end_ts // made.bucket_s - round(made.start_ts / made.bucket_s)))
            for each in known.ended(made.start_ts, now_s, FILTERS[text])
            if not math.isnan(each.told(DURATION))
        ]
        highest = max((each.told(DURATION) for each, _ in asked), default=math.nan)
        assert np.isclose(drawn.ends[1], highest, equal_nan=True, rtol=1e-6)
        scale = Scale.of(drawn.ends[1], SECONDS, height)
        wanted = np.zeros((5, height, width), int)
        for each, column in asked:
            dot = round(min(1.0, each.told(DURATION) / scale.high) * (4 * height - 1))
            wanted[kind_of(each), height - 1 - dot // 4, column] += 1
        assert drawn.dots is not None
        assert np.array_equal(drawn.dots.on(scale), wanted)


@settings(exactly, max_examples=60)
@given(looks(), st.sampled_from(WINDOWS))
def test_lanes_hold_each_request_from_its_start_to_its_end(
    look: tuple[str, float, str], window: Window
) -> None:
    """Each once, where it waited, was read and written; in one lane no two at the same time."""
    name, now_s, text = look
    for store, known in both(name, now_s):
        listing = RequestQuery(store)
        listing.set(text)
        start_ts, _ = bounds(known, window, now_s)
        found = request_spans(store, start_ts, now_s, listing.view_at(now_s).mask)
        wanted = again.spans(known, start_ts, now_s, FILTERS[text])
        got = {store.ids[span.row]: list(span[1:5]) for span in found}
        assert len(got) == len(found) == min(len(wanted), len(found))
        assert got.keys() == wanted.keys() or len(wanted) > MAX_SPANS
        for name_, moments in got.items():
            assert np.allclose(moments, wanted[name_], rtol=0, atol=1e-3), name_
        lanes = AgentLanes().place(store, found, now_s)
        assert sorted(span.row for lane in lanes for span in lane.spans) == sorted(
            span.row for span in found
        )
        for lane in lanes:
            for one, other in pairwise(lane.spans):
                assert other.start_ts >= one.end_ts
