"""The main screen: what its keys do, and that it stays true while data arrives."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input, Static

from mlxdeck.telemetry.analyze import time_series, window_total
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui import redrawing
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.screens.dashboard import DashboardScreen
from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.themes import THEME_NAMES
from mlxdeck.tui.widgets.line_chart import LineChart
from tests.streams import NAME, START_TS, Made, Stream
from tests.tui.running import LAST, REQUESTS, running


async def test_key_figures_are_those_of_the_window(tmp_path: Path) -> None:
    """Percentiles are of answers, rates are of all prompt tokens."""
    async with running(tmp_path) as run:
        assert run.figure("requests") == "6"
        assert (run.figure("running"), run.figure("queue")) == ("1", "2")
        assert run.figure("P50") == "2.00s"
        assert run.figure("P99") == "8.00s ~"
        assert run.figure("TTFT") == "1.00s"
        assert (run.figure("calls"), run.figure("unreadable")) == ("2", "0")
        assert run.figure("errors") == "1 !"
        assert "latency of 4 answers" in run.text
        assert "exact 23%" in run.text and "prefix 43%" in run.text


async def test_w_goes_through_the_windows(tmp_path: Path) -> None:
    """From five minutes up to everything and round to one minute, with its own figures."""
    async with running(tmp_path) as run:
        seen = []
        for _ in range(5):
            seen.append(run.app.context.window.label)
            assert f"window {run.app.context.window.label}" in run.text
            await run.press("w")
        assert seen == ["5m", "15m", "1h", "all", "1m"]
        assert run.app.context.window.label == "5m"


async def test_a_short_window_leaves_older_requests_out(tmp_path: Path) -> None:
    """The table still lists them."""
    async with running(tmp_path, now_s=110) as run:
        await run.press("w", "w", "w", "w")
        assert run.app.context.window.label == "1m"
        assert "latency of 3 answers" in run.text
        assert run.table.n_items == len(REQUESTS)


async def test_space_holds_the_view_while_data_arrives(tmp_path: Path) -> None:
    """Also when the window is changed meanwhile; the second press shows what came."""
    async with running(tmp_path) as run:
        await run.press("space")
        await run.add_request(Made(95))
        await run.press("w")
        assert run.table.n_items == len(REQUESTS)
        assert "paused" in run.text and "1 new" in run.text
        await run.press("space")
        assert run.table.n_items == len(REQUESTS) + 1
        assert "paused" not in run.text and "live" in run.text


async def test_l_switches_the_latency_scale(tmp_path: Path) -> None:
    """To a logarithmic one, said in words, and back."""
    async with running(tmp_path) as run:
        chart = run.app.screen.query_one("#latency", LineChart)
        await run.press("l")
        await run.until(lambda: "log scale" in run.text)
        assert chart.log_scale
        assert "10ms" in run.text
        await run.press("l")
        await run.until(lambda: "log scale" not in run.text)


async def test_d_goes_through_the_themes(tmp_path: Path) -> None:
    """Dark, light, high contrast; from one of Textual's own to the first."""
    async with running(tmp_path) as run:
        seen = [run.app.theme]
        for _ in THEME_NAMES:
            await run.press("d")
            seen.append(run.app.theme)
        assert seen == [*THEME_NAMES, THEME_NAMES[0]]
        for name in ("nord", "textual-light", "ansi-dark"):
            run.app.theme = name
            await run.settle()
            assert "requests" in run.text
        await run.press("d")
        assert run.app.theme == THEME_NAMES[0]


async def test_question_mark_lists_the_keys(tmp_path: Path) -> None:
    """Every key that the footer shows, from the bindings; escape closes it."""
    async with running(tmp_path) as run:
        footer = run.app.screen.active_bindings
        await run.press("question_mark")
        for _, binding, _, _ in footer.values():
            if binding.show and binding.description != "palette":
                assert run.app.get_key_display(binding) in run.text
        assert "Next window" in run.text
        await run.press("escape")
        assert isinstance(run.app.screen, DashboardScreen)


async def test_a_server_without_telemetry_is_no_riddle(tmp_path: Path) -> None:
    """The screen says why it stays empty, and what would fill it."""
    app = Dashboard([tmp_path], beside=Beside(unrecorded=True))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        shown = app.screen.query_one("#empty", Static)
        assert shown.display
        assert "Telemetry is off" in str(shown.render()) and "--no-telemetry" in str(shown.render())


async def test_q_leaves(tmp_path: Path) -> None:
    """With a status of success."""
    async with running(tmp_path) as run:
        await run.press("q")
        assert not run.app.is_running
        assert not run.app.return_code


@pytest.mark.parametrize("title", ["Window: next", "Pause or resume", "Log scale", "Newest"])
async def test_palette_offers_every_action(tmp_path: Path, title: str) -> None:
    """By a name one can search for."""
    async with running(tmp_path, REQUESTS[:1]) as run:
        commands = {c.title: c for c in run.app.get_system_commands(run.app.screen)}
        found = next(command for name, command in commands.items() if name.startswith(title))
        made = found.callback()
        assert made is not None
        await made


async def test_palette_opens_and_runs_a_command(tmp_path: Path) -> None:
    """Typed as a user would."""
    async with running(tmp_path) as run:
        await run.press("ctrl+p", *"pause")
        await run.until(lambda: "Pause or resume" in run.text)
        await run.press("enter")
        await run.until(lambda: run.app.context.clock.paused)


async def test_empty_state_says_how_to_begin(tmp_path: Path) -> None:
    """Where it looks and what to type; it comes alive with the first event."""
    folder = tmp_path / "telemetry"
    app = Dashboard([folder], clock=lambda: START_TS + 1)
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.screen.query_one("#empty").display:
            await pilot.pause(0.02)
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        text = "".join("".join(strip.text.split()) for strip in strips)
        assert "mlxdeckserve" in text and "waiting" in text
        assert str(folder).replace(" ", "") in text
        folder.mkdir()
        (folder / NAME).write_bytes(Stream().header())
        while not app.screen.query_one("#panels").display:
            await pilot.pause(0.02)
        assert not app.screen.query_one("#empty").display


async def test_trouble_shows_in_the_status_line(tmp_path: Path) -> None:
    """Bad lines, dropped lines and a newer schema, each in words; nothing while there is none."""
    async with running(tmp_path) as run:
        assert "!" not in run.text.splitlines()[0]
    stream = Stream()
    newer = stream.tick(91).replace(b'"v":1', b'"v":2')
    extra = [b"{torn\n", b"junk\n", stream.line(t.Tick(dropped_lines=3), 92), newer]
    async with running(tmp_path, extra=extra, size=(200, 40)) as run:
        await run.until(lambda: "schema version 2" in run.text)
        status = run.text.splitlines()[0]
        assert "2 bad lines" in status and "3 lines dropped" in status


async def test_models_that_are_not_loaded_are_named(tmp_path: Path) -> None:
    """As the last tick says it, beside what the server says of itself."""
    stream = Stream()
    ticks = [
        stream.tick(91, unloaded_models=("big", "small/tiny")),
        stream.tick(92, unloaded_models=("small/tiny",), loading_models=("big",)),
    ]
    async with running(tmp_path, extra=ticks, size=(200, 40)) as run:
        await run.until(lambda: "big loading" in run.text)
        status = run.text.splitlines()[0]
        assert "small/tiny unloaded" in status and "big unloaded" not in status


async def test_figures_of_a_silent_server_are_not_shown_as_current(tmp_path: Path) -> None:
    """An old tick says nothing of now."""
    async with running(tmp_path, now_s=140) as run:
        assert {run.figure(name) for name in ("running", "queue", "memory")} == {"–"}


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (250, 60), (60, 15)])
async def test_every_size_shows_what_matters(tmp_path: Path, size: tuple[int, int]) -> None:
    """Figures, charts and requests; no line is longer than the terminal."""
    async with running(tmp_path, size=size) as run:
        for word in ("mlxdeck", "P95", "latency", "requests", "Open"):
            assert word in run.text
        assert max(map(len, run.text.splitlines())) <= size[0]
        assert run.table.size.height >= 3


async def test_tab_goes_to_the_tool_calls(tmp_path: Path) -> None:
    """Enter on a call opens the request that made it."""
    async with running(tmp_path) as run:
        await run.press("tab", "down", "enter")
        assert run.shown_row == 1


async def test_new_requests_are_followed_from_the_top(tmp_path: Path) -> None:
    """The cursor on the newest stays on the newest."""
    async with running(tmp_path) as run:
        assert run.table.item == LAST
        await run.add_request(Made(95))
        assert run.table.item == LAST + 1
        assert "newest of 7" in run.text


async def test_what_is_typed_at_once_is_typed_into_the_filter(tmp_path: Path) -> None:
    """A filter that is pasted with its slash; in the filter a slash is a character."""
    async with running(tmp_path) as run:
        for character in "/tool:Read/":
            key = {"/": "slash", ":": "colon"}.get(character, character)
            run.app.post_message(events.Key(key, character))
        await run.until(lambda: run.app.screen.query_one(Input).value == "tool:Read/")
        assert "tool: no Read/; Read?" in run.text and run.table.n_items == len(REQUESTS)


async def test_an_empty_list_says_how_to_fill_it(tmp_path: Path) -> None:
    """With the address of the server that wrote the stream."""
    start = t.StreamStart(model="made-up", server_address="127.0.0.1", server_port=8099)
    async with running(tmp_path, [], extra=[Stream().line(start, 1)]) as run:
        assert "mlxdeck claude --port 8099" in run.text
        await run.add_request(Made(95))
        assert "ANTHROPIC" not in run.text


async def test_an_old_stream_is_shown_as_it_was_at_its_end(tmp_path: Path) -> None:
    """Figures, charts and the line at the top agree, until another server writes."""
    async with running(tmp_path, now_s=90_000) as run:
        assert run.app.context.clock.now == run.app.store.last_ts
        assert run.figure("requests") == "6" and "nothing in" not in run.text
        top = run.text.splitlines()[0]
        assert "■ ended" in top and "last event 21 Sep" in top and "24h58m ago" in top
        # Its last tick says that a request runs.
        assert {run.figure(name) for name in ("running", "queue", "memory")} == {"–"}
        await run.add(Stream(8).tick(90_000))
        await run.until(lambda: not run.app.context.clock.over)
        assert run.figure("requests") == "0" and "● live" in run.text.splitlines()[0]


async def test_a_picture_that_is_drawn_in_parts_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many requests, whatever is asked: between two parts, keys are heard."""
    shown: list[list[str]] = []
    n_turns = 0
    go_on = Dashboard._draw_on

    def counted(app: Dashboard) -> None:
        nonlocal n_turns
        n_turns += 1
        go_on(app)

    monkeypatch.setattr(Dashboard, "_draw_on", counted)
    turns = []
    for n_rows in (time_series.PART_ROWS, 1):
        n_turns = 0
        for module in (time_series, window_total, redrawing):
            monkeypatch.setattr(module, "PART_ROWS", n_rows)
        (tmp_path / str(n_rows)).mkdir()
        async with running(tmp_path / str(n_rows)) as run:
            drawn = []
            for keys in ("w", "space", "w", "8"):
                await run.press(keys)
                drawn.append(run.text)
            shown.append(drawn)
        turns.append(n_turns)
    assert shown[0] == shown[1]
    assert turns[1] > 10 * len(REQUESTS) > turns[0]
