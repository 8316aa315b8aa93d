"""What a dashboard draws while nothing happens: just what looks another way."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.segment import Segment
from textual._compositor import Compositor
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip

from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.widgets.line_widget import LineWidget
from mlxdeck.tui.widgets.shown_text import ShownText
from tests.streams import NAME, START_TS, Made, Stream, write
from tests.tui.running import NOW_S, REQUESTS, Running

SECONDS = 12
KEYS = {"paused": ["space"], "on a page": ["enter"], "with sessions": ["s"]}
"""What is pressed for it."""


class Drawn:
    """What goes to the screen, as the compositor has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.regions: list[Region] = []
        self.n_layouts = self.n_filtered = 0
        update, reflow, apply = Compositor.render_update, Compositor.reflow, ShownText.apply

        def updated(compositor: Compositor, *args: object, **options: object) -> object:
            self.regions += compositor._dirty_regions
            return update(compositor, *args, **options)  # type: ignore[arg-type]

        def laid_out(compositor: Compositor, *args: object) -> object:
            self.n_layouts += 1
            return reflow(compositor, *args)  # type: ignore[arg-type]

        def filtered(own: ShownText, *args: object) -> object:
            self.n_filtered += 1
            return apply(own, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Compositor, "render_update", updated)
        monkeypatch.setattr(Compositor, "reflow", laid_out)
        monkeypatch.setattr(ShownText, "apply", filtered)

    def clear(self) -> None:
        """Begin anew."""
        self.regions.clear()
        self.n_layouts = self.n_filtered = 0


def cells(strips: list[Strip], region: Region) -> list[Strip]:
    """A part of the screen."""
    lines = strips[region.y : region.bottom]
    return [line.crop(region.x, region.right).simplify() for line in lines]


async def a_second_later(run: Running, now: list[float], drawn: Drawn) -> int:
    """Let a second pass; return how many lines were drawn for it."""
    compositor = run.app.screen._compositor
    before = compositor.render_strips()
    drawn.clear()
    now[0] += 1
    run.app._rest_until_s = 0.0
    run.app.redraw()
    await run.settle()
    regions, after = list(drawn.regions), compositor.render_strips()
    for region in regions:
        assert cells(before, region) != cells(after, region), region
    if not regions:
        assert [each.text for each in before] == [each.text for each in after]
    n_lines = sum(each.height for each in regions)
    assert drawn.n_filtered <= n_lines
    assert not drawn.n_layouts
    return n_lines


@pytest.mark.parametrize(
    ("state", "n_at_least", "n_at_most"),
    [
        ("live", 0, SECONDS - 1),
        # Its time so far changes.
        ("running", SECONDS, SECONDS),
        ("paused", 0, 0),
        ("on a page", 0, 0),
        ("with sessions", 0, 0),
        ("replayed", 0, 0),
        # How long ago that was changes, at first with each second.
        ("ended", SECONDS, SECONDS),
        ("long ago", 0, 1),
    ],
)
async def test_only_what_changes_is_drawn(
    state: str, n_at_least: int, n_at_most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second at a time: nothing is laid out, and no region is drawn that looks as before."""
    now, path = [START_TS + NOW_S], write(tmp_path / NAME, REQUESTS)
    stream = Stream()
    if state == "running":
        path.write_bytes(path.read_bytes() + stream.request(Made(99, 4), 50)[0])
    app = Dashboard([path], clock=lambda: now[0], replay=state == "replayed", speed=64.0)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n >= len(REQUESTS))
        await run.press(*KEYS.get(state, ()))
        now[0] += {"ended": 100, "replayed": 10_000, "long ago": 10_000}.get(state, 1)
        await run.until(lambda: True)
        drawn, n_drawn = Drawn(monkeypatch), 0
        for second in range(SECONDS):
            if not second % 10 and state not in ("ended", "long ago"):
                await run.add(stream.tick(now[0] - START_TS, active=1, queued=0))
            n_drawn += bool(await a_second_later(run, now, drawn))
        assert n_at_least <= n_drawn <= n_at_most


async def test_nothing_on_the_screen_is_out_of_date(tmp_path: Path) -> None:
    """Whatever was asked, and came: drawn line by line, it looks as if all were drawn anew."""
    now = [START_TS + NOW_S]
    path = write(tmp_path / NAME, REQUESTS * 8)
    app = Dashboard([path], clock=lambda: now[0])
    async with app.run_test(size=(190, 40)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n >= len(REQUESTS) * 8)
        steps = ["", "down", "", "d", "w", "o", "", "m", "escape", "pagedown", "8", "tab", "left"]
        for step, key in enumerate([*steps, "", "3", "down", "", "b", "g", ""]):
            now[0] += 1.5
            start, *_, end = run._stream.request(Made(now[0] - START_TS, 3.0, tool="Edit"), step)
            await run.add(start, *([end] if step % 3 else []))
            await run.press(*filter(None, [key]))
            app._rest_until_s = 0.0
            app.redraw()
            await run.settle()
            drawn = app.screen._compositor.render_strips()
            for widget in app.screen.walk_children(with_self=True):
                widget.refresh()
            await run.settle()
            anew = app.screen._compositor.render_strips()
            assert [line.simplify() for line in drawn] == [line.simplify() for line in anew], key


class OneLine(LineWidget):
    """A text."""

    text = "as before"

    def make_line(self, y: int) -> Strip:
        return Strip([Segment(self.text)])


class Alone(App[None]):
    """Such a widget."""

    def compose(self) -> ComposeResult:
        yield OneLine()


async def test_a_line_that_is_back_before_it_is_drawn_is_drawn_as_it_is() -> None:
    """Not as it was made for the drawing that didn't come about."""
    async with Alone().run_test() as pilot:
        widget = pilot.app.query_one(OneLine)
        await pilot.pause()
        for text in ("another", "as before"):
            widget.text = text
            widget.refresh_changed()
        await pilot.pause()
        shown = pilot.app.screen._compositor.render_strips()[0].text
        assert shown.strip() == "as before"
