"""The dashboard without a terminal, over a stream that tests write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.panels.registry import PANEL_IDS
from mlxdeck.tui.screens.request import RequestScreen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.kpi import KpiStrip
from mlxdeck.tui.widgets.request_table import RequestTable
from mlxdeck.tui.widgets.tiles import KpiValue
from tests.streams import NAME, START_TS, Made, Stream, write

NOW_S = 100.0
"""The dashboard's clock, in seconds after the stream's start; it stands still."""
REQUESTS = (
    Made(40, 8.0, 1000, 0, 40, cache="miss"),
    Made(50, 2.0, 1000, 900, 20, cache="prefix", tool="Read"),
    Made(60, 0.001, 1000, 1000, 20, cache="exact"),
    Made(70, 1.0, outcome="error", cache=""),
    Made(80, 3.0, 1200, 1000, 60, cache="prefix", tool="Bash"),
    Made(90, 4.0, outcome="cancelled"),
)
LAST = len(REQUESTS) - 1


class Running:
    """A dashboard in a test, and what a test asks of it."""

    def __init__(self, app: Dashboard, pilot: Pilot[None], path: Path) -> None:
        self.app = app
        self.pilot = pilot
        self.path = path
        self._stream = Stream()
        self._n_added = 0

    @property
    def table(self) -> RequestTable:
        """The list of requests."""
        return self.app.screen.query_one(RequestTable)

    @property
    def text(self) -> str:
        """The screen as a user sees it, without colours."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    @property
    def shown_row(self) -> int:
        """The request whose screen is open."""
        assert isinstance(self.app.screen, RequestScreen)
        return self.app.screen.row

    @property
    def alone(self) -> list[str]:
        """The panels that are shown, if the line at the top is still above them."""
        assert self.text.startswith(" mlxdeck")
        return [name for name in PANEL_IDS if self.app.screen.query_one(f"#{name}").region.area]

    def figure(self, name: str) -> str:
        """What a tile at the top says."""
        return self.app.screen.query_one(KpiStrip).values.get(name, KpiValue(fmt.UNKNOWN)).text

    async def press(self, *keys: str) -> None:
        """Press keys, and let what they do come to rest."""
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is left to handle or to draw.

        A dashboard that was left draws nothing any more.
        """
        n_quiet = 0
        for n_tried in range(1000):
            # Most of it needs turns of the event loop alone; a timer or a thread needs time.
            await self.pilot.pause(0 if n_tried < 20 else 0.01)
            n_quiet = n_quiet + 1 if self._at_rest else 0
            if n_quiet == 3 or not self.app.is_running:
                return
        raise AssertionError(f"it never came to rest; on screen was:\n{self.text}")

    @property
    def _at_rest(self) -> bool:
        screen = self.app.screen
        if self.app._parts is not None:
            return False
        waiting = (each.message_queue_size for each in screen.walk_children(with_self=True))
        return not (screen._layout_required or screen._dirty_widgets or screen._callbacks) and not (
            any(waiting)
        )

    async def add(self, *lines: bytes) -> None:
        """Append lines to the stream, and wait until they are taken in."""
        before = self.app.store.n_lines
        with self.path.open("ab") as file:
            file.write(b"".join(lines))
        await self.until(lambda: self.app.store.n_lines >= before + len(lines))

    async def add_request(self, made: Made) -> None:
        """Append all events of one more request."""
        self._n_added += 1
        await self.add(*self._stream.request(made, 1000 + self._n_added))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, and draw once it is so."""
        for _ in range(1000):
            if condition():
                break
            await self.pilot.pause(0.01)
        else:
            raise AssertionError(f"it never came about; on screen was:\n{self.text}")
        self.app.redraw_now()
        await self.settle()


@asynccontextmanager
async def running(
    folder: Path,
    requests: Iterable[Made] = REQUESTS,
    *,
    size: tuple[int, int] = (120, 36),
    extra: Sequence[bytes] = (),
    now_s: float = NOW_S,
) -> AsyncIterator[Running]:
    """A dashboard that has read a stream of these requests, and has drawn them."""
    path = write(folder / NAME, requests)
    with path.open("ab") as file:
        file.write(b"".join(extra))
    n_lines = sum(batch.n_lines for batch in Tail([path]).poll())
    app = Dashboard([path], clock=lambda: START_TS + now_s)
    async with app.run_test(size=size) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n_lines >= n_lines)
        yield run
