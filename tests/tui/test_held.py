"""Moments that are not now: a view that is held, a replay, and what they must not know yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.schema.events import RequestProgress, ServerStop
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.screens.request import RequestScreen
from mlxdeck.tui.screens.sessions import SessionsScreen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.error_list import ErrorList
from mlxdeck.tui.widgets.line_chart import LineChart
from mlxdeck.tui.widgets.tool_calls import ToolCallList
from mlxdeck.tui.widgets.waterfall import Waterfall
from tests.streams import NAME, START_TS, Made, Stream, write
from tests.tui.running import NOW_S, REQUESTS, Running, running


async def test_a_held_view_knows_nothing_of_later(tmp_path: Path) -> None:
    """A request that runs then goes on running; sessions and exports hold what is listed."""
    now = [START_TS + NOW_S]
    path = write(tmp_path / NAME, REQUESTS)
    app = Dashboard([path], clock=lambda: now[0])
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == len(REQUESTS))
        start, *_, end = run._stream.request(Made(110, 12.0), 50)
        await run.add(start)
        await run.press("space")
        now[0] += 20
        await run.add(end)
        await run.press("w")
        (running_one,) = (line for line in run.text.splitlines() if "◌" in line)
        assert "2.00s" in running_one and "open" in running_one
        await run.add_request(Made(118))
        await run.press("s")
        assert "7 requests" in run.text
        await run.press("escape", "enter")
        assert "◌ open" in run.text
        await run.press("escape", "space")
        await run.until(lambda: run.table.n_items == len(REQUESTS) + 2)
        assert "◌" not in run.text


async def test_a_replay_knows_nothing_of_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on a request's screen nor beside it nor in what is exported."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / NAME, REQUESTS)
    app = Dashboard([path], clock=lambda: 1000.0, replay=True)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == len(REQUESTS))
        app.context.clock.hold_at(START_TS + 78)
        await run.until(lambda: run.table.n_items == 5)
        await run.press("enter")
        assert "5 of 5" in run.text and "◌ open" in run.text and "end_turn" not in run.text
        bars = str(run.app.screen.query_one(Waterfall).render()).splitlines()
        assert bars and all(line.split()[1] == "–" for line in bars)
        await run.press("n")
        assert run.shown_row == 4
        await run.press("escape", "e", "down", "enter")
        last = exported(path)
        assert last["outcome"] == "open" and last["duration_s"] is None


async def test_a_replay_does_not_know_yet_what_is_lost(tmp_path: Path) -> None:
    """Neither in the list nor in a filter nor on its screen; and no report of later."""
    stream = Stream()
    lines = stream.request(Made(90, 10.0), 0)[:2]
    path = tmp_path / NAME
    for at_s, read in ((82, 21), (88, 52)):
        report = RequestProgress(state="prefill", prompt_tokens=100, read_tokens=read)
        lines.append(stream.line(report, at_s, "req_7_0000"))
    path.write_bytes(b"".join([stream.header(), *lines, stream.line(ServerStop(), 95)]))
    app = Dashboard([path], clock=lambda: 1000.0, replay=True)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == 1)
        for at_s, outcome in ((85, "open"), (96, "lost")):
            app.context.clock.hold_at(START_TS + at_s)
            app.filter_by(f"status:{outcome}")
            await run.until(lambda: run.table.n_items == 1)
            assert (" reading 21% " if outcome == "open" else " lost ") in run.text
            assert ("server stopped" in run.text) == (outcome == "lost")
            await run.press("enter")
            assert f"{'◌' if outcome == 'open' else '–'} {outcome}" in run.text
            if outcome == "lost":
                assert "last seen" in run.text and "reading 52%" in run.text
            else:
                assert "reading 21%" in run.text and " now " in run.text
                app.context.clock.hold_at(START_TS + 89)
                app.redraw_now()
                await run.until(lambda: "reading 52%" in run.text)
            await run.press("escape")


async def test_several_days_are_told_apart(tmp_path: Path) -> None:
    """Rows by day and time; what has room for one of them by the day."""
    day_s = 86_400
    made = [Made(50, tool="Read"), Made(day_s + 60, tool="Bash")]
    async with running(tmp_path, made, now_s=day_s + 100) as run:
        await run.press("w", "w", "w")
        old, new = (fmt.dated(START_TS + at_s - 1) for at_s in (50, day_s + 60))
        await run.until(lambda: old in run.text and new in run.text)
        calls = run.app.screen.query_one(ToolCallList)
        times = [calls.cells(number, 60)[0][0] for number in range(2)]
        assert times == [f"{old[:6]}   ", f"{fmt.clock(START_TS + day_s + 60)} "]


def exported(stream: Path) -> dict[str, Any]:
    """The last line of what was written beside a stream."""
    (found,) = (each for each in stream.parent.glob("mlxdeck-*.jsonl") if each != stream)
    last: dict[str, Any] = json.loads(found.read_text().splitlines()[-1])
    return last


async def test_as_fast_as_it_reads_can_be_sought(tmp_path: Path) -> None:
    """It stands still there; and at its end, one press plays it again."""
    path = write(tmp_path / NAME, REQUESTS)
    app = Dashboard([path], clock=lambda: 1000.0, replay=True, speed=float("inf"))
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: run.table.n_items == len(REQUESTS))
        await run.press("home")
        assert app.context.clock.position == 0
        app.context.clock.speed = 1.0
        await run.press("end", "space")
        assert not app.context.clock.paused and app.context.clock.position == 0


async def test_home_moves_in_a_filter(tmp_path: Path) -> None:
    """Not in the recording that it filters."""
    path = write(tmp_path / NAME, REQUESTS)
    app = Dashboard([path], clock=lambda: 1000.0, replay=True)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == len(REQUESTS))
        app.action_go_end()
        await run.press("slash", *"ok", "home", *"tool:")
        assert app.context.clock.position == 1
        assert run.app.screen.query_one(Input).value == "tool:ok"


async def test_alerts_are_of_everything_and_told_everywhere(tmp_path: Path) -> None:
    """Whatever is filtered, and whichever screen is open."""
    path = write(tmp_path / NAME, REQUESTS)
    limits = Thresholds(hit_rate=0.3, queue=30)
    app = Dashboard([path], clock=lambda: START_TS + NOW_S, limits=limits)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == len(REQUESTS))
        app.filter_by("hit<0.1")
        await run.settle()
        assert not app.context.alarm.active
        await run.press("enter")
        await run.add(Stream().tick(99, queued=50))
        await run.until(lambda: len(app._notifications) == 1)


async def test_what_servers_say_is_added_up(tmp_path: Path) -> None:
    """Of those that run; one that stopped is left out."""
    async with running(tmp_path) as run:
        await run.add(Stream(8).tick(99, active=3, queued=1, output_tokens_per_s=8.5))
        await run.until(lambda: (run.figure("running"), run.figure("queue")) == ("4", "3"))
        # One that only asks other servers doesn't know what waits there.
        await run.add(Stream(9).tick(99, active=1, queued=None))
        await run.until(lambda: (run.figure("running"), run.figure("queue")) == ("5", "3"))


async def test_the_cursor_stays_on_its_error(tmp_path: Path) -> None:
    """When another one of its kind comes."""
    async with running(tmp_path, size=(200, 40)) as run:
        await run.press("6")
        errors = run.app.screen.query_one(ErrorList)
        for second, kind in ((91, "aaa"), (92, "bbb"), (93, "ccc")):
            await run.add(*failed(run, second, kind))
        errors.focus()
        await run.press("down")
        assert "bbb" in str(errors._groups[errors.item])
        await run.add(*failed(run, 94, "bbb"))
        assert "bbb" in str(errors._groups[errors.item])


def failed(run: Running, second: float, kind: str) -> list[bytes]:
    """A request that failed, for a reason of that kind."""
    lines = run._stream.request(Made(second, outcome="error"), round(second * 10))
    return [line.replace(b'"api_error"', b'"%s"' % kind.encode()) for line in lines]


async def test_fast_hands_open_one_screen(tmp_path: Path) -> None:
    """Two clicks on the row under the cursor, two presses of enter on a session."""
    async with running(tmp_path) as run:
        await run.pilot.click(run.table, offset=(20, 2), times=2)
        await run.press()
        assert sum(isinstance(s, RequestScreen) for s in run.app.screen_stack) == 1
        await run.press("escape", "s")
        screen = run.app.screen
        assert isinstance(screen, SessionsScreen)
        for _ in range(2):
            screen.query_one("#sessions").action_choose()  # type: ignore[attr-defined]
        await run.until(lambda: run.table.n_items == 3)


async def test_a_maximized_panel_makes_way(tmp_path: Path) -> None:
    """When it is hidden; a filter that is typed leaves it alone."""
    async with running(tmp_path) as run:
        await run.press("m", "slash", *"tool:Read")
        assert run.alone == ["requests"] and "tool:Read" in run.text
        await run.press("enter", "4")
        assert run.alone == ["latency", "hits", "calls"]


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (250, 60)])
@pytest.mark.parametrize("panel", ["hits", "requests", "calls"])
async def test_a_panel_alone_has_all_the_room(
    tmp_path: Path, size: tuple[int, int], panel: str
) -> None:
    """Between the lines at the top and the keys, in any terminal."""
    async with running(tmp_path, size=size) as run:
        widget = run.app.screen.query_one(f"#{panel}")
        widget.focus()
        await run.press("m")
        assert run.alone == [panel]
        assert (widget.region.width, widget.region.height) == (size[0], size[1] - 3)


async def test_a_mistake_keeps_the_filter_open(tmp_path: Path) -> None:
    """Enter on it does nothing; escape brings back what was in force."""
    async with running(tmp_path) as run:
        await run.press("slash", *"tool:Read", "enter", "slash", *" latncy>2", "enter")
        assert "did you mean latency" in run.text
        await run.press("escape")
        assert run.app.context.listing.text == "tool:Read"


async def test_a_chart_of_answers_finds_an_answer(tmp_path: Path) -> None:
    """Not a longer request that was cancelled."""
    made = [*REQUESTS, Made(96, 60.0, outcome="cancelled")]
    async with running(tmp_path, made) as run:
        chart = run.app.screen.query_one("#latency", LineChart)
        chart.focus()
        chart.look_back = chart.n_buckets
        await run.press("right", "enter")
        assert run.table.item == 0


async def test_a_tick_without_news_counts_the_time(tmp_path: Path) -> None:
    """Of requests that run, on the dashboard and among a session's."""
    now = [START_TS + NOW_S]
    path = write(tmp_path / NAME, REQUESTS[:1])
    app = Dashboard([path], clock=lambda: now[0])
    async with app.run_test(size=(140, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == 1)
        await run.add(run._stream.request(Made(200, 101.0), 50)[0])
        assert "1.00s" in run.text
        now[0] += 30
        await run.until(lambda: "31.0s" in run.text)
        await run.press("s")
        assert "31.0s" in run.text


async def test_what_came_meanwhile_is_drawn(tmp_path: Path) -> None:
    """After a request's screen and after the sessions', also while the view is held."""
    async with running(tmp_path) as run:
        for n, key in enumerate(("enter", "s"), 1):
            await run.press("space", key)
            await run.add_request(Made(95))
            await run.press("escape")
            await run.pilot.pause(0.2)
            assert "paused  1 new" in run.text
            await run.press("space")
            await run.until(lambda n=n: run.table.n_items == len(REQUESTS) + n)  # type: ignore[misc]
