"""The filter: typed, completed, kept, explained."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.tui.panels.registry import PANEL_IDS
from mlxdeck.tui.widgets.filter_bar import FilterBar
from mlxdeck.tui.widgets.line_chart import LineChart
from tests.tui.running import REQUESTS, running


async def test_a_filter_narrows_lists_and_figures(tmp_path: Path) -> None:
    """While it is typed; escape shows everything again."""
    async with running(tmp_path) as run:
        await run.press("slash", *"tool:Read")
        await run.until(lambda: run.table.n_items == 1)
        assert run.figure("requests") == "1" and "1 match" in run.text
        await run.press("enter")
        assert "/ tool:Read" in run.text and run.app.context.ways.filters == ["tool:Read"]
        await run.press("escape")
        await run.until(lambda: run.table.n_items == len(REQUESTS))


async def test_a_mistake_in_a_filter_is_told(tmp_path: Path) -> None:
    """Until it is mended."""
    async with running(tmp_path) as run:
        await run.press("slash", *"latncy>2s")
        await run.until(lambda: "did you mean latency" in run.text)
        await run.press("escape")
        await run.until(lambda: "did you mean" not in run.text)
        assert run.table.n_items == len(REQUESTS)


async def test_a_filter_is_completed(tmp_path: Path) -> None:
    """The right arrow takes what is shown; Tab goes through the choices, Shift+Tab back."""
    async with running(tmp_path) as run:
        bar = run.app.screen.query_one(FilterBar)
        line = bar.query_one(Input)
        await run.press("slash", *"lat")
        assert run.table.n_items == len(REQUESTS)
        await run.pilot.pause(0.1)
        await run.press("right")
        assert line.value == "latency>"
        await run.press(*"2", "space", *"tool:")
        seen = []
        for key in ("tab", "tab", "tab", "tab", "shift+tab", "shift+tab"):
            await run.press(key)
            seen.append(line.value.removeprefix("latency>2 "))
        assert seen == ["tool:Bash", "tool:Read", "tool:", "tool:Bash", "tool:", "tool:Read"]
        # As the word at the cursor would hide all, it doesn't count before it is finished.
        assert run.table.n_items == 3 and "nothing matches the last word" in run.text
        # Letters are no commands, whatever Tab found, or not.
        await run.press("space", *"q4x", "tab", "tab", *"d")
        assert run.table.n_items == 0 and "no request matches" in run.text
        assert line.value == "latency>2 tool:Read q4xd" and line.has_focus
        await run.press("escape")
        assert not bar.display and run.table.has_focus
        # Once leaves the choices, twice the bar; nothing of it is left.
        await run.press("slash", *"to", "tab", "escape")
        assert line.value == "to" and bar.display
        await run.press("escape")
        assert not bar.display and line.value == "" and run.table.n_items == len(REQUESTS)


async def test_a_hidden_filter_never_has_the_focus(tmp_path: Path) -> None:
    """A panel that is hidden hands it to the list, or to another panel."""
    async with running(tmp_path) as run:
        for keys in (["1"], ["2"], ["escape"], ["x", "escape"], ["m", "escape"], ["4"], ["4"]):
            run.app.screen.query_one("#latency", LineChart).focus()
            await run.press(*keys)
            focused = run.app.focused
            assert focused is not None and focused.id in PANEL_IDS and focused.region.area
            await run.press(*keys[:1] if keys[0] in "12" else ())


async def test_a_filter_is_kept_under_a_name(tmp_path: Path) -> None:
    """Then @name stands for it, in other filters too; it is offered, and in the palette."""
    async with running(tmp_path) as run:
        await run.press("slash", *"tool:Read or tool:Bash", "ctrl+s", *"with tools", "enter")
        ways = run.app.context.ways
        assert ways.kept == {"with-tools": "tool:Read or tool:Bash"}
        field = run.app.screen.query_one(Input)
        field.value = "@with-tools latency>2.5s"
        await run.until(lambda: run.table.n_items == 1)
        field.value, field.cursor_position = "@wi", 3
        await run.press("tab")
        assert field.value == "@with-tools"
        field.value = "@other"
        await run.until(lambda: "there are @with-tools" in run.text)
        commands = {each.title: each for each in run.app.get_system_commands(run.app.screen)}
        assert "Filter: with-tools" in commands
        commands["Forget filter: with-tools"].callback()
        assert ways.kept == {}


async def test_f1_explains_the_filter_language(tmp_path: Path) -> None:
    """Every field, in words; escape goes back to what was typed."""
    async with running(tmp_path, size=(120, 60)) as run:
        run.app.context.ways.kept["slow"] = "latency>9s"
        await run.press("slash", *"tool", "f1")
        assert all(field.example in run.text for field in FIELDS.values())
        assert "@slow" in run.text and "latency>9s" in run.text
        await run.press("escape", *":Re")
        assert run.app.screen.query_one(Input).value == "tool:Re"


async def test_up_brings_back_filters_that_were_used(tmp_path: Path) -> None:
    """The latest first, and round again."""
    async with running(tmp_path) as run:
        for text in ("tool:Read", "tool:Bash"):
            await run.press("slash", *text, "enter", "escape")
        await run.press("slash", "up")
        field = run.app.screen.query_one(Input)
        assert field.value == "tool:Bash"
        await run.press("up")
        assert field.value == "tool:Read"
        await run.press("up")
        assert field.value == "tool:Bash"
