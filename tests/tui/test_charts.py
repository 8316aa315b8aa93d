"""Charts: what is drawn where, and the cursor that tells the values of a moment."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.stats import WINDOWS
from mlxdeck.tui.present.charts import joined
from mlxdeck.tui.present.view_model import nothing_in
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.canvas import Canvas
from mlxdeck.tui.widgets.line_chart import LegendItem, LineChart, fitted
from mlxdeck.tui.widgets.plot import drawn_lines, shown_kinds, stacked
from mlxdeck.tui.widgets.scale import DOTS, Axis, Scale, round_time, round_up
from mlxdeck.tui.widgets.time_axis import GAP, STEPS_S, TimeAxis, ago_ticks, clock_ticks, spread
from tests.streams import START_TS, Made, Stream
from tests.tui.running import REQUESTS, Running, running

NAN = math.nan
SECONDS = Axis(fmt.tick, fmt.duration, of_time=True)
SHARE = Axis(fmt.percent, fmt.percent, 1.0)
rows = st.integers(1, 40)


def values(*given: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One a column."""
    return np.array(given)


def test_values_stand_at_their_height() -> None:
    """The lowest on the frame, the highest at the top, a missing one nowhere."""
    drawn = drawn_lines([values(0, 10, NAN, 5)], Scale.of(10, SECONDS, 8), 20)
    ink = drawn.masks > 0
    assert ink[7, :5].all() and ink[0, 5:10].all() and not ink[:, 10:15].any()
    assert ink[3:5, 15:].any(axis=0).all() and not ink[:3, 15:].any()


def test_lines_that_meet_take_turns() -> None:
    """So that none is hidden behind another."""
    owners = drawn_lines([values(1, 1)] * 3, Scale.of(1, SECONDS, 8), 20).owners
    assert set(owners[owners >= 0].tolist()) == {0, 1, 2}


@given(st.floats(1e-4, 1e6), rows, st.sampled_from([SECONDS, SHARE, Axis(fmt.rate, fmt.rate)]))
def test_labels_are_round_and_on_the_rows_of_their_values(
    highest: float, n_rows: int, axis: Axis
) -> None:
    """Zero is the lowest row of dots, the top is the highest, and each label has its own line."""
    highest = axis.top or highest
    scale = Scale.of(highest, axis, n_rows)
    labels = scale.labels()
    assert (labels[0].value, labels[0].dot) == (0, 0)
    assert labels[-1].dot == n_rows * DOTS - 1 and scale.high >= highest * (1 - 1e-6)
    assert scale.high - highest < scale.step
    assert [each.dot for each in labels] == scale.dots(np.array([x.value for x in labels])).tolist()
    assert n_rows < 2 or len({scale.line(each.dot) for each in labels}) == len(labels)
    assert scale.step == (round_time if axis.of_time else round_up)(scale.step)


@given(st.floats(1e-5, 1e5), st.floats(1, 1e6), rows)
def test_a_logarithmic_scale_goes_by_powers_of_ten(low: float, factor: float, n_rows: int) -> None:
    """And holds the lowest and the highest value."""
    scale = Scale.of_decades(low, low * factor, n_rows)
    assert scale.low <= low * (1 + 1e-9) and scale.high >= low * factor * (1 - 1e-9)
    for each in scale.labels():
        assert math.log10(each.value) == pytest.approx(round(math.log10(each.value)))


def test_steps_are_those_of_clocks() -> None:
    """1, 2 and 5 below a second; then what people count time by."""
    assert [round_time(each) for each in (0.003, 0.4, 3, 12, 17, 50, 100, 1000, 4000)] == [
        0.005, 0.5, 5, 15, 30, 60, 120, 1800, 7200,
    ]  # fmt: skip
    assert round_time(90_000) == 2 * 86_400


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=9), rows)
def test_a_stack_is_as_high_as_its_shares(shares: list[list[float]], n_rows: int) -> None:
    """What is whole fills its column to the top, from the frame on; nothing is no layer."""
    table = np.array(shares).T
    assume((table.sum(axis=0) > 0.01).all())
    table /= table.sum(axis=0)
    lower, upper, n_lower = stacked(list(table), Scale.of(1, SHARE, n_rows), len(shares))
    lowest = np.where(lower == 0, n_lower, 0).sum(axis=0)
    np.testing.assert_array_equal(lowest, np.rint(table[0] * n_rows * DOTS))
    assert (lower >= 0).all() and (upper >= 0).all() and (upper >= lower).all()
    empty = [np.full(3, NAN)] * 4
    assert (stacked(empty, Scale.of(1, SHARE, n_rows), 3)[0] == -1).all()


def test_a_cell_shows_what_most_of_its_dots_are() -> None:
    """But errors already where they are a quarter."""
    counts = np.array([[[5, 3, 0, 1]], [[1, 0, 0, 0]], [[1, 1, 0, 0]]])
    assert shown_kinds(counts, 2).tolist() == [[0, 2, -1, 0]]


def test_a_line_ends_where_nothing_happened() -> None:
    """A short gap is passed over."""
    active = np.zeros(64, bool)
    active[[3, 4, 7, 20]] = True
    assert np.flatnonzero(joined(active)).tolist() == [3, 4, 5, 6, 7, 20]


@given(
    st.floats(1.7e9, 1.9e9), st.floats(1, 1e8), st.integers(8, 250), st.sampled_from(["UTC", "CET"])
)
def test_times_below_are_round(start_ts: float, length_s: float, width: int, zone: str) -> None:
    """On the local clock, at equal distances, and with room between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        ticks = clock_ticks(start_ts, start_ts + length_s, width)
        steps = {round((ts + time.localtime(ts).tm_gmtoff) % 3600) % 60 for ts, _ in ticks}
    time.tzset()
    times = TimeAxis(start_ts, start_ts + length_s, ticks)
    assert all(start_ts <= ts <= start_ts + length_s for ts, _ in ticks)
    assert length_s < 60 * width or steps <= {0}
    columns = times.tick_columns(width)
    for (first, second), (text, _) in zip(
        zip(columns, columns[1:], strict=False), zip(ticks, ticks[1:], strict=False), strict=True
    ):
        assert second - first >= len(text.text) + GAP - 2


@given(st.integers(10, 4000), st.integers(8, 250))
def test_how_long_ago_is_round(length_s: int, width: int) -> None:
    """From now back to the window's start."""
    ticks = ago_ticks(START_TS, length_s, width)
    assert ticks[-1].text == "now" and ticks[0].ts >= START_TS - length_s
    steps = {round(after.ts - tick.ts) for tick, after in zip(ticks, ticks[1:], strict=False)}
    assert len(steps) <= 1 and steps <= set(STEPS_S)


@given(st.lists(st.tuples(st.integers(0, 89), st.text("abc:", min_size=1, max_size=9)), max_size=8))
def test_texts_below_never_touch(texts: list[tuple[int, str]]) -> None:
    """The last one is there if it fits; each is below its column or at an end."""
    found = spread(sorted(texts), 90)
    assert len(found) == 90
    shown = found.split()
    assert set(shown) <= {text for _, text in texts}
    assert not texts or sorted(texts)[-1][1] in shown


def test_a_legend_loses_its_last_figures_first() -> None:
    """Then its last items; in ASCII it has other marks."""
    items = [
        (LegendItem(mark, "good", label, "", lambda _: ""), figure)
        for mark, label, figure in (
            ("━*", "P50", "1s"),
            ("●e", "exact", "12"),
            ("✗x", "error", "3"),
        )
    ]
    told = ["".join(fitted(items, width)) for width in range(60, 3, -1)]
    kept = [[label in text for label in ("P50 1s", "exact 12", "error 3")] for text in told]
    assert kept[0] == [True] * 3 and "P50" in told[-1] and "exact" not in told[-1]
    assert all(sorted(each, reverse=True) == each for each in kept)
    assert any("error" in text and "error 3" not in text for text in told)
    assert "]e[/]" in "".join(fitted(items, 60, plain=1))


@given(st.lists(st.lists(st.booleans(), min_size=20, max_size=20), min_size=1, max_size=6))
def test_the_word_of_a_mark_stands_where_no_data_is(filled: list[list[bool]]) -> None:
    """As high as it has room; it covers nothing, and nothing covers it."""
    data = np.array(filled)
    canvas = Canvas(*data.shape)
    canvas.put((slice(None), 3), ord("|"), "mark")
    canvas.put(data, ord("x"), "good")
    LineChart._write_mark(canvas, len(filled), 3, "start")
    free = [line for line, row in enumerate(filled) if not any(row[4:9])]
    for line, row in enumerate(filled):
        text = "".join(run.text for run in canvas.runs(line))
        assert ("start" in text) is (line == (free or [-1])[0])
        assert [char == "x" for char in text] == row


async def test_charts_share_their_times(tmp_path: Path) -> None:
    """In each window, whatever their widths: the same stretch of time, the same ticks."""
    async with running(tmp_path, size=(160, 40)) as run:
        await run.press("3")
        for _ in WINDOWS:
            length_s = run.app.context.window.length_s
            pictures = [chart._picture for chart in run.app.screen.query(LineChart)]
            assert len(pictures) == 3
            for each in pictures:
                cell_s = each.times.length_s / each.n_columns
                for tick, other in zip(each.times.ticks, pictures[0].times.ticks, strict=True):
                    assert tick.text == other.text and abs(tick.ts - other.ts) <= 2 * cell_s
                assert each.times.length_s == pytest.approx(pictures[0].times.length_s)
                assert abs(each.times.end_ts - pictures[0].times.end_ts) <= 2 * cell_s
            chart = run.app.screen.query_one("#latency", LineChart)
            below = chart.render_line(chart.size.height - 1).text
            assert below.endswith("now") if length_s else " 14:14" in below
            await run.press("w")


async def chart_with_cursor(run: Running) -> LineChart:
    """The latency chart, with the focus and a cursor on the newest moment."""
    chart = run.app.screen.query_one("#latency", LineChart)
    chart.focus()
    await run.press("left")
    return chart


async def test_a_cursor_tells_the_values_of_a_moment(tmp_path: Path) -> None:
    """Left and right move it; the legend tells totals again when the focus leaves."""
    async with running(tmp_path) as run:
        chart = await chart_with_cursor(run)
        assert chart.cursor == chart.n_buckets - 1
        told = [str(chart.border_subtitle)]
        for _ in range(30):
            await run.press("left")
            told.append(str(chart.border_subtitle))
        assert len({each.split("[/b]")[0] for each in told}) > 20
        assert any("P95 3.00s" in each for each in told)
        assert "│" in run.text
        await run.press("tab")
        assert chart.cursor == -1 and "P50 2.00s" in run.text


async def test_a_moment_leads_to_its_request(tmp_path: Path) -> None:
    """Enter on the chart of latency finds the one whose dot is there, else the slowest before."""
    async with running(tmp_path) as run:
        chart = await chart_with_cursor(run)
        for row, later in ((0, 0), (0, 1), (1, 0)):
            times = chart._picture.times
            chart.cursor = times.column(START_TS + REQUESTS[row].end_s, chart.n_buckets) + later
            await run.press("enter")
            assert run.table.item == row


async def test_the_mouse_points_at_a_moment(tmp_path: Path) -> None:
    """Where it is, the values are told; a click finds the request."""
    async with running(tmp_path) as run:
        chart = run.app.screen.query_one("#latency", LineChart)
        await run.pilot.hover(chart, offset=(chart.size.width, 4))
        assert chart.cursor > chart.n_buckets - 5
        await run.pilot.click(chart, offset=(chart.size.width - 4, 4))
        await run.press()
        assert run.table.item in range(len(REQUESTS))
        await run.pilot.hover(run.table)
        assert chart.cursor == -1


async def test_a_cursor_survives_another_width(tmp_path: Path) -> None:
    """It is gone, for it pointed at another moment."""
    async with running(tmp_path) as run:
        chart = await chart_with_cursor(run)
        assert chart.cursor > 50
        await run.pilot.resize_terminal(70, 30)
        await run.until(lambda: chart.n_buckets < 50)
        assert chart.cursor == -1
        await run.press("left", "left")
        assert chart.cursor == chart.n_buckets - 2


async def test_an_empty_chart_says_what_would_help(tmp_path: Path) -> None:
    """Nothing in the window, or nothing of it that matches, until there is."""
    async with running(tmp_path, now_s=5000, extra=[Stream().tick(4999)]) as run:
        assert "nothing in the last 5m  ·  w: longer" in run.text
        await run.press("w", "w", "w")
        assert "nothing in" not in run.text
        run.app.filter_by("tool:none")
        await run.settle()
        assert "no match yet" in run.text
        # A longer window is no help where the shown one holds everything.
        window, begin_ts = WINDOWS[1], START_TS + REQUESTS[0].end_s
        told = [
            nothing_in(run.app.store, window, begin_ts + s, filtered=True, n_listed=n)
            for s, n in ((299, 1), (300, 1), (300, 0))
        ]
        assert told == ["no match yet", "no match in the last 5m  ·  w: longer", "no match yet"]


async def test_each_request_is_a_dot_of_its_kind(tmp_path: Path) -> None:
    """In every kind of marker; where nothing happened, nothing is drawn."""
    async with running(tmp_path, [*REQUESTS, Made(95, 2.0)]) as run:
        for marks in ("●◐○✗", "●◐○✗", "epmx"):
            chart = run.app.screen.query_one("#latency", LineChart)
            plot = "".join(chart.render_line(y).text[8:] for y in range(chart.size.height - 1))
            assert [plot.count(mark) for mark in marks] == [1, 2, 2, 1], marks
            first = min(line.index(mark) for line in [plot] for mark in marks)
            assert first > 0
            width = chart.size.width - 8
            early = "".join(chart.render_line(y).text[8 : 8 + width // 2] for y in range(4, 6))
            assert not set(early) - set(" .┈⠁⠂⠄⡀"), early
            await run.press("b")


async def test_a_narrow_legend_tells_what_is_drawn(tmp_path: Path) -> None:
    """Answers from disk have an ink of their own, and it is named before what there is none of."""
    known = Made(90, input_tokens=100, cached_tokens=100, cache="exact", tier="disk")
    async with running(tmp_path, [known], size=(110, 36)) as run:
        legend = run.app.screen.query_one("#hits", LineChart).border_subtitle
        assert "exact 100%" in str(legend) and "not in memory" in str(legend)
        assert "prefix" not in str(legend)
