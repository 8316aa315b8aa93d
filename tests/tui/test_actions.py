"""What keys and the mouse do beyond the plain dashboard: filter, replay, panels, compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.analyze.stats import WINDOWS
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.outputs import clipboard
from mlxdeck.tui.screens.compare import CompareScreen
from mlxdeck.tui.screens.sessions import SessionsScreen
from mlxdeck.tui.themes import THEME_NAMES
from mlxdeck.tui.widgets.conversation import ConversationView
from mlxdeck.tui.widgets.line_chart import LineChart
from mlxdeck.tui.widgets.plot import MARKERS
from mlxdeck.tui.widgets.transport import Transport
from tests.streams import NAME, START_TS, Stream, write
from tests.telemetry.test_sessions import captured
from tests.tui.running import LAST, REQUESTS, Running, running


async def test_x_lists_what_could_not_be_read(tmp_path: Path) -> None:
    """With place, reason and how the line begins."""
    typed = Stream().tick(1).replace(b'"pid":7', b'"pid":"seven"')
    extra = [b"{torn\n", typed, b"\xffjunk [b]\n"]
    async with running(tmp_path, extra=extra) as run:
        await run.until(lambda: "3 bad lines" in run.text)
        await run.press("x")
        last = run.path.read_bytes().count(b"\n")
        for words in ("3 bad lines of", "{torn", "\\xffjunk [b]", "malformed"):
            assert words in run.text
        assert f"{NAME} line {last - 2:,}\n" in "\n".join(
            line.strip(" │") + "\n" for line in run.text.splitlines()
        )
        assert "pid: expected int, got str" in run.text and f"line {last:,}" in run.text
        await run.press("escape")
        assert "malformed" not in run.text


async def test_two_clicks_show_a_chart_alone(tmp_path: Path) -> None:
    """And two more all panels again."""
    async with running(tmp_path) as run:
        chart = run.app.screen.query_one("#latency", LineChart)
        await run.pilot.click(chart, times=2)
        assert run.alone == ["latency"]
        await run.pilot.click(chart, times=2)
        assert len(run.alone) == 4


async def test_a_click_on_a_figure_shows_what_it_counts(tmp_path: Path) -> None:
    """Errors, tool calls and hits."""
    async with running(tmp_path) as run:
        for group, line, n_listed in (
            ("requests", 3, 1), ("health", 1, 2), ("cache", 1, 1), ("cache", 2, 2)
        ):  # fmt: skip
            await run.pilot.click(f"#kpi-{group}", offset=(24, line))
            await run.until(lambda n=n_listed: run.table.n_items == n)  # type: ignore[misc]
            await run.press("escape")


async def test_m_shows_the_chart_that_has_the_focus_alone(tmp_path: Path) -> None:
    """Tab and shift-tab reach the charts too."""
    async with running(tmp_path) as run:
        await run.press("shift+tab", "m")
        assert run.alone == ["hits"]


async def test_numbers_show_and_hide_panels(tmp_path: Path) -> None:
    """But never the last one."""
    async with running(tmp_path, size=(200, 50)) as run:
        screen = run.app.screen
        assert not screen.query_one("#throughput").display
        await run.press("3", "6")
        await run.until(lambda: "tokens a second" in run.text and "errors" in run.text)
        assert "api_error" in run.text
        await run.press("1", "2", "3")
        assert not screen.query_one("#charts").display
        await run.press("4", "5", "6", "7")
        assert len(run.alone) == 1


async def test_m_shows_one_panel_alone(tmp_path: Path) -> None:
    """And escape all of them again."""
    async with running(tmp_path) as run:
        await run.press("m")
        assert run.alone == ["requests"]
        await run.press("escape")
        assert len(run.alone) == 4


async def test_b_changes_the_dots(tmp_path: Path) -> None:
    """Through all kinds, for all charts."""
    async with running(tmp_path) as run:
        for marker in [*MARKERS[1:], MARKERS[0]]:
            await run.press("b")
            assert {chart.marker for chart in run.app.screen.query(LineChart)} == {marker}
            await run.until(lambda: True)


async def test_s_groups_by_session_and_enter_filters_by_one(tmp_path: Path) -> None:
    """The list of requests is that session's alone."""
    async with running(tmp_path) as run:
        await run.press("s")
        assert isinstance(run.app.screen, SessionsScreen)
        assert "2 sessions" in run.text and "session1" in run.text
        await run.press("enter")
        await run.until(lambda: run.table.n_items == 3)
        assert 'session="session1"' in run.text


async def test_a_session_shows_its_requests(tmp_path: Path) -> None:
    """Those of the one under the cursor; tab goes there, enter opens one, escape comes back."""
    async with running(tmp_path) as run:
        await run.press("down", "s")
        sessions = run.app.screen
        assert "requests of session0" in run.text and run.table.n_items == 3
        await run.press("up")
        assert "requests of session1" in run.text
        await run.press("tab", "enter")
        assert run.shown_row == LAST
        await run.press("escape")
        assert run.app.screen is sessions


async def test_o_lists_the_slowest_first(tmp_path: Path) -> None:
    """Then by first token, prompt and answer, and by time again; a click on a title does it too."""
    async with running(tmp_path) as run:
        await run.press("o")
        await run.until(lambda: run.table.item == 0)
        assert "requests, slowest first" in run.text and "slowest of 6" in run.text
        await run.press("o", "o")
        await run.until(lambda: run.table.item == 4)
        await run.press("down")
        assert "1 above · g: longest prompt" in run.text
        titles = run.text.splitlines()[run.table.region.y + 1]
        await run.pilot.click(run.table, offset=(titles.index(" out") + 3, 1))
        await run.until(lambda: "longest answer of" in run.text)
        assert run.table.item == 4
        await run.pilot.click(run.table, offset=(titles.index("time") + 1, 1))
        await run.until(lambda: "newest of 6" in run.text)
        assert run.table.item == LAST


async def test_an_order_keeps_to_what_was_known(tmp_path: Path) -> None:
    """In a replay, a request that runs has no duration yet."""
    app = await replaying(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, tmp_path / "recording.jsonl")
        await run.until(lambda: app.store.n == len(REQUESTS))
        await run.press("t", *"97%", "enter", "o")
        await run.until(lambda: run.table.n_items == len(REQUESTS))
        assert int(run.table._items[0]) == LAST and run.table.item == 0


async def test_c_compares_two_requests(tmp_path: Path) -> None:
    """The first press marks one; x swaps, escape goes back."""
    async with running(tmp_path) as run:
        await run.press("c", "c", "c", "down", "c")
        assert isinstance(run.app.screen, CompareScreen)
        assert "A req_7_0005" in run.text and "B req_7_0004" in run.text
        assert "≠" in run.text and "-1.00s  0.75×" in run.text
        await run.press("x")
        assert "+1.00s  1.3×" in run.text
        assert "A req_7_0004" in run.text
        await run.press("escape")
        assert run.table.marked == -1


async def test_both_compared_requests_are_named_where_the_line_is_short(tmp_path: Path) -> None:
    """Cut alike, as the second would else be off the screen."""
    async with running(tmp_path, size=(40, 20)) as run:
        await run.press("c", "down", "c")
        assert "compare  ·  A req_7_0…  ·  B req_7_0…" in run.text
        await run.pilot.resize_terminal(80, 20)
        await run.until(lambda: "A req_7_0005  ·  B req_7_0004" in run.text)


def exported(folder: Path, stream: Path) -> int:
    """Lines of the file that stands beside the stream."""
    (path,) = (each for each in folder.glob("mlxdeck-*.jsonl") if each != stream)
    return len(path.read_text().splitlines())


async def test_e_writes_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the working folder, and says where."""
    monkeypatch.chdir(tmp_path)
    async with running(tmp_path) as run:
        run.app.filter_by("status:ok")
        await run.press("e")
        assert run.app.screen.query_one(OptionList).option_count == 3
        await run.press("down", "enter")
        assert exported(tmp_path, run.path) == 4


async def test_a_request_is_copied_as_json_and_as_curl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latter only if its text was captured."""
    copied: list[str] = []
    monkeypatch.setattr("mlxdeck.tui.screens.request.copy", lambda _, text: copied.append(text))
    async with running(tmp_path) as run:
        await run.press("enter", "y", "u")
        assert json.loads(copied[0])["request_id"] == f"req_7_{LAST:04d}"
        assert len(copied) == 1
    captured(tmp_path)
    app = Dashboard([run.path], clock=lambda: START_TS + 5)
    async with app.run_test(size=(120, 50)) as pilot:
        again = Running(app, pilot, run.path)
        await again.until(lambda: again.table.n_items == 2)
        await again.press("enter", "u")
        assert copied[-1].startswith("curl ")
        conversation = app.screen.query_one(ConversationView)
        assert "in b.py?" in again.text and "answer" in again.text
        await again.press("o", "o")
        assert conversation.query("Collapsible")


async def test_over_ssh_the_terminal_copies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Programs of the machine there would fill the wrong clipboard."""
    async with running(tmp_path) as run:
        monkeypatch.setenv("SSH_CONNECTION", "somewhere")
        assert clipboard.copy(run.app, "text") == "the terminal"
        assert run.app.clipboard == "text"


async def test_dialogs_fit_a_small_terminal(tmp_path: Path) -> None:
    """Their right edge, too, is on the screen."""
    async with running(tmp_path, size=(40, 12)) as run:
        for key in ("e", "x", "question_mark"):
            await run.press(key)
            (box, *_) = run.app.screen.children
            assert box.region.x >= 0 and box.region.right <= 40, key
            await run.press("escape")


async def replaying(tmp_path: Path) -> Dashboard:
    """A dashboard over a recording, whose wall clock stands still."""
    path = write(tmp_path / "recording.jsonl", REQUESTS)
    return Dashboard([path], clock=lambda: 1000.0, replay=True)


async def test_a_replay_is_stepped_and_sought(tmp_path: Path) -> None:
    """By request, by share, by time, to both ends, and with the mouse."""
    app = await replaying(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, tmp_path / "recording.jsonl")
        clock = app.context.clock
        await run.until(lambda: app.store.n == len(REQUESTS))
        assert "replay" in run.text and clock.now == START_TS + REQUESTS[0].end_s
        assert run.table.n_items == 1
        await run.press("home")
        await run.until(lambda: run.table.n_items == 0)
        assert "]: to the first request" in run.text
        await run.press("right_square_bracket")
        assert clock.now == START_TS + 40 and clock.paused
        await run.until(lambda: run.table.n_items == 1)
        await run.press("right_square_bracket", "right_square_bracket", "left_square_bracket")
        assert clock.now == START_TS + 50
        await run.press("t", *"50%", "enter")
        assert clock.now == START_TS + 45
        await run.until(lambda: "open" in run.text or run.table.n_items == 1)
        await run.press("end")
        assert clock.now == START_TS + 90 and run.table.n_items == len(REQUESTS)
        await run.press("home")
        assert clock.now == START_TS
        await run.press("t", *"soon", "enter")
        await run.until(lambda: "a share like 50%" in run.text)
        await run.press("escape")
        transport = app.screen.query_one(Transport)
        await pilot.click(transport, offset=(transport.size.width // 2, 0))
        await run.settle()
        assert START_TS < clock.now < START_TS + 90
        before = clock.paused
        await pilot.click(transport, offset=(1, 0))
        await run.settle()
        assert clock.paused != before
        await pilot.click(transport, offset=(6, 0))
        await run.settle()
        assert clock.speed == 2


async def test_a_replay_changes_its_speed(tmp_path: Path) -> None:
    """Said in the line of controls; a live view has no such keys."""
    app = await replaying(tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, tmp_path / "recording.jsonl")
        await run.until(lambda: app.store.n == len(REQUESTS))
        await run.press("plus", "plus")
        await run.until(lambda: "4×" in run.text)
        await run.press("minus")
        assert app.context.clock.speed == 2
        await run.press("equals_sign")
        assert app.context.clock.speed == 4
    async with running(tmp_path) as live:
        await live.press("plus", "t", "home")
        assert live.app.context.clock.speed == 1
        assert not live.app.screen.query_one(Transport).display


async def test_a_crossed_threshold_is_told_and_drawn(tmp_path: Path) -> None:
    """In a notification, in the line at the top and across the chart."""
    path = write(tmp_path / "recording.jsonl", REQUESTS)
    limits = Thresholds(error_rate=0.1, latency_p95_s=3.0)
    app = Dashboard([path], clock=lambda: START_TS + 100, limits=limits)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == len(REQUESTS))
        await run.until(lambda: "failed, over 10%" in run.text)
        assert "╌" in run.text
        assert len(app._notifications) == 1


async def test_ways_are_kept_for_the_next_time(tmp_path: Path) -> None:
    """Window, theme, panels and dots."""
    path = write(tmp_path / "recording.jsonl", REQUESTS)
    memory = tmp_path / "dashboard.json"
    app = Dashboard([path], clock=lambda: START_TS + 100, memory=memory)
    async with app.run_test() as pilot:
        await pilot.press("w", "d", "2", "b")
        await pilot.pause()
    again = Dashboard([path], clock=lambda: START_TS + 100, memory=memory)
    async with again.run_test() as pilot:
        assert again.context.window is WINDOWS[2]
        assert again.theme == THEME_NAMES[1]
        assert {chart.marker for chart in again.screen.query(LineChart)} == {MARKERS[1]}
        assert not again.screen.query_one("#hits").display
