"""What a dashboard draws while nothing happens: just what looks another way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual._compositor import Compositor
from textual.geometry import Region
from textual.strip import Strip

from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.text.sanitize import Plain
from tests.streams import NAME, START_TS, Made, Stream, write
from tests.tui.running import NOW_S, REQUESTS, Running

SECONDS = 12
Opened = Callable[..., Awaitable[Running]]


class Drawn:
    """What goes to the screen, as the compositor has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.regions: list[Region] = []
        self.n_layouts = self.n_filtered = 0
        update, reflow, apply = Compositor.render_update, Compositor.reflow, Plain.apply

        def updated(compositor: Compositor, *args: object, **options: object) -> object:
            self.regions += compositor._dirty_regions
            return update(compositor, *args, **options)  # type: ignore[arg-type]

        def laid_out(compositor: Compositor, *args: object) -> object:
            self.n_layouts += 1
            return reflow(compositor, *args)  # type: ignore[arg-type]

        def filtered(plain: Plain, *args: object) -> object:
            self.n_filtered += 1
            return apply(plain, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Compositor, "render_update", updated)
        monkeypatch.setattr(Compositor, "reflow", laid_out)
        monkeypatch.setattr(Plain, "apply", filtered)

    def clear(self) -> None:
        """Begin anew."""
        self.regions.clear()
        self.n_layouts = self.n_filtered = 0


def cells(strips: list[Strip], region: Region) -> list[Strip]:
    """A part of the screen."""
    lines = strips[region.y : region.bottom]
    return [line.crop(region.x, region.right).simplify() for line in lines]


@pytest.mark.parametrize("state", ["live", "running", "paused", "replayed", "ended", "long ago"])
async def test_only_what_changes_is_drawn(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second at a time: nothing is laid out, and no region is drawn that looks as before."""
    now, path = [START_TS + NOW_S], write(tmp_path / NAME, REQUESTS)
    stream, replay = Stream(), state == "replayed"
    if state == "running":
        path.write_bytes(path.read_bytes() + stream.request(Made(99, 4), 50)[0])
    app = Dashboard([path], clock=lambda: now[0], replay=replay, speed=64.0)
    async with app.run_test(size=(120, 36)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n >= len(REQUESTS))
        if state == "paused":
            await run.press("space")
        now[0] += {"ended": 100, "replayed": 10_000, "long ago": 10_000}.get(state, 1)
        await run.until(lambda: True)
        drawn, n_alike, n_lines = Drawn(monkeypatch), 0, 0
        for second in range(SECONDS):
            if not second % 10 and state not in ("ended", "long ago"):
                await run.add(stream.tick(now[0] - START_TS, active=1, queued=0))
                await run.settle()
            before = app.screen._compositor.render_strips()
            drawn.clear()
            now[0] += 1
            app._rest_until_s = 0.0
            app.redraw()
            await run.settle()
            after, regions = app.screen._compositor.render_strips(), list(drawn.regions)
            for region in regions:
                assert cells(before, region) != cells(after, region), (second, region)
            if not regions:
                assert [each.text for each in before] == [each.text for each in after]
            n_alike += not regions
            n_lines += sum(each.height for each in regions)
            assert drawn.n_filtered <= 2 * sum(each.height for each in regions)
            assert not drawn.n_layouts
        if state in ("paused", "replayed"):
            assert n_alike == SECONDS
        if state == "long ago":
            # Told in minutes.
            assert n_alike >= SECONDS - 1
        if state == "ended":
            # How long ago the last event was.
            assert n_lines == SECONDS
        if state == "running":
            # Its time so far.
            assert n_alike == 0 and "◌" in run.text
        if state == "live":
            assert n_alike > 0
