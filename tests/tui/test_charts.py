"""Charts: what is drawn where, and the cursor that tells the values of a moment."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.geometry import Size

from mlxdeck.telemetry.analyze.stats import WINDOWS
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.line_chart import LineChart, spread
from mlxdeck.tui.widgets.plot import Axis, Plot, PlotLine, nice_top
from tests.streams import Stream
from tests.tui.running import NOW_S, REQUESTS, Running, running

NAN = math.nan
SIZE = Size(20, 8)


def line(*values: float) -> PlotLine:
    """A line of a chart."""
    return PlotLine("it", np.array(values), "good")


def plotted(*lines: PlotLine, log: bool = False) -> Plot:
    """A range for lines."""
    return Plot.of(lines, Axis(fmt.tick, fmt.duration), SIZE, log=log)


def test_values_stand_at_their_height() -> None:
    """The lowest at the bottom, the highest at the top, a missing one nowhere."""
    one = line(0, 8, NAN, 4)
    drawn = plotted(one).draw([one])
    ink = drawn.masks > 0
    assert ink[7, :5].all() and ink[0, 5:10].all() and not ink[:, 10:15].any()
    assert ink[3:5, 15:].any(axis=0).all() and not ink[:3, 15:].any()


def test_lines_that_meet_take_turns() -> None:
    """So that none is hidden behind another."""
    lines = [line(1, 1), line(1, 1), line(1, 1)]
    owners = plotted(*lines).draw(lines).owners
    assert set(owners[owners >= 0].tolist()) == {0, 1, 2}


def test_an_axis_is_labelled_with_round_numbers() -> None:
    """Quarters on a linear scale, decades on a logarithmic one."""
    assert list(plotted(line(7.0)).labels().values()) == [0, 4, 8]
    assert list(plotted(line(0.02, 7.0), log=True).labels().values()) == pytest.approx(
        [0.01, 0.1, 1]
    )


def test_a_threshold_is_drawn_where_it_is_in_sight() -> None:
    """In the line of cells that it lies in."""
    plot = plotted(line(8.0))
    assert (plot.row(8), plot.row(4), plot.row(9), plot.row(0), plot.row(None)) == (
        0,
        3,
        -1,
        -1,
        -1,
    )


@given(st.floats(1e-6, 1e12))
def test_the_top_is_above_and_not_far(value: float) -> None:
    """At most two thirds more."""
    assert value <= nice_top(value) * 1.001 and nice_top(value) <= value * 1.7


@given(st.lists(st.text("abc:", min_size=1, max_size=9), max_size=8), st.integers(4, 90))
def test_texts_below_never_touch(texts: list[str], width: int) -> None:
    """All of them, or each second one, or fewer; the ends last of all."""
    found = spread(texts, width)
    assert len(found) == width
    ends = len(texts) > 1 and len(texts[0]) + 1 + len(texts[-1]) <= width
    shown = found.split()
    assert any(shown == list(texts[::step]) for step in range(1, len(texts))) or not shown
    assert not ends or (found.startswith(texts[0]) and found.endswith(texts[-1]))


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.label)
async def test_each_window_has_round_times_below(tmp_path: Path, window: object) -> None:
    """From its length ago to now, or from the first moment to the last."""
    async with running(tmp_path) as run:
        while run.app.context.window is not window:
            await run.press("w")
        await run.until(lambda: True)
        (below,) = (each for each in run.text.splitlines() if "now" in each or "13:1" in each)
    if run.app.context.window.length_s:
        assert f"-{run.app.context.window.label}" in below and below.count("-") >= 6


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
        assert any("P99 3.00s" in each for each in told)
        assert "│" in run.text
        await run.press("tab")
        assert chart.cursor == -1 and "P50 2.00s" in run.text


async def test_a_moment_leads_to_its_request(tmp_path: Path) -> None:
    """Enter on the chart of latency finds the slowest one up to there."""
    async with running(tmp_path) as run:
        chart = await chart_with_cursor(run)
        chart.look_back = 3
        # The request that ended 40 s after the start took the longest.
        ago_s = NOW_S - REQUESTS[0].end_s
        chart.action_look(-round(ago_s / 300 * chart.n_buckets))
        await run.press("enter")
        assert run.table.item == 0


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
