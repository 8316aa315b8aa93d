"""The panel of overlapping requests."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.tui.widgets.timeline import Timeline
from tests.streams import Made
from tests.tui.running import Running, running

REQUESTS = [Made(40, 20.0), Made(50, 30.0), Made(70, 40.0, outcome="error"), Made(90, 0.001)]


async def test_the_timeline_shows_overlaps_and_opens_requests(tmp_path: Path) -> None:
    """From 180 columns on at first, in any width when asked; the cursor goes through its bars."""
    async with running(tmp_path, REQUESTS, size=(200, 48)) as run:
        timeline = run.app.screen.query_one(Timeline)
        assert timeline.region.area and len(timeline._lanes) == 3
        drawn = [timeline.render_line(y).text for y in range(timeline.size.height)]
        assert drawn[0].startswith("session") and "▓" in drawn[0] and "█" in drawn[0]
        assert "✗" in "".join(drawn) and drawn[-1].rstrip().endswith("now")
        await run.press("7")
        assert not timeline.region.area
        await run.press("7")
        assert timeline.region.area
        timeline.focus()
        await run.press("left")
        assert chosen(run) == "req_7_0003" and "read" in str(timeline.border_subtitle)
        await run.press("left")
        assert chosen(run) == "req_7_0001"
        await run.press("down")
        assert chosen(run) in {"req_7_0000", "req_7_0002"}
        await run.press("b", "b")
        assert "=" in timeline.render_line(0).text and "█" not in timeline.render_line(0).text
        await run.press("enter")
        assert run.app.store.ids[run.shown_row] == chosen_of(timeline, run)
        await run.press("escape")
        await run.pilot.resize_terminal(120, 40)
        await run.settle()
        # It was asked for.
        assert timeline.region.area


def chosen(run: Running) -> str:
    """The request under the cursor."""
    return chosen_of(run.app.screen.query_one(Timeline), run)


def chosen_of(timeline: Timeline, run: Running) -> str:
    """The same of a timeline that another screen may cover."""
    return run.app.store.ids[timeline.item]
