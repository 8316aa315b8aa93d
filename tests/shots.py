"""Pictures of the real dashboard over recordings, for the README: `make shots`.

    python -m tests.shots [NAME...]

Those of the main screen and of requests show `afternoon.jsonl`. Its server stopped in the middle of
its work, and the clock stands at its last moments: so each run gives the same pictures, of a server
that runs.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.pilot import Pilot

from mlxdeck.telemetry.analyze import session_summary
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.themes import THEME_NAMES

ROOT = Path(__file__).parent.parent
RECORDINGS = ROOT / "tests" / "data"
FOLDER = ROOT / "screenshots"
_BLOCKS = re.compile("(█+)")
_LOWER = "▁▂▃▄▅▆▇█"
_TEXT = re.compile(r'(<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)"[^>]*>)([^<]*)</text>')
CELL_WIDTH, CELL_HEIGHT, TOP = 12.2, 24.4, -18.5
"""Of the pictures that Rich makes; `TOP` is that of a cell above the line its texts stand on."""
FONT = "DejaVu Sans Mono"
"""Has braille and box drawing, and is everywhere; the pictures name a font that must be fetched."""
ZOOM = 2
BEFORE_END_S = 0.2
WINDOW = "15m"
"""What the recording is long."""
SUFFIXES = ("", "light", "contrast")
"""What stands behind a picture's name, in the order of `THEME_NAMES`."""
SIZES = ((80, 24), (120, 36), (160, 48), (250, 60))


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: its file, the size in cells, and what is pressed first."""

    name: str
    size: tuple[int, int] = (120, 36)
    keys: tuple[str, ...] = ()
    theme: int = 0
    """Which of `THEME_NAMES`."""
    recording: str = "afternoon.jsonl"
    replay_at: float | None = None
    """The share of the recording at which a replay stands; None shows it live."""


def _mains() -> list[Shot]:
    """The main screen in every size and theme."""
    found = []
    for size in SIZES:
        for theme, name in enumerate(SUFFIXES):
            told = (f"{size[0]}x{size[1]}" if size != (120, 36) else "", name)
            label = "-".join(filter(None, ("dashboard", *told)))
            found.append(Shot(label, size, theme=theme))
    return found


TALL = (120, 48)
SHOTS = (
    *_mains(),
    Shot("dashboard-log", keys=("l",)),
    Shot("cursor", keys=("shift+tab", *["left"] * 17, "enter")),
    Shot("replay", replay_at=0.6),
    Shot("replay-80x24", (80, 24), replay_at=0.6),
    Shot("filter", keys=("slash", *"cache:prefix latency>10s")),
    Shot("filter-help", TALL, keys=("slash", "f1")),
    Shot("sessions", TALL, keys=("s",)),
    Shot("sessions-light", TALL, keys=("s",), theme=1),
    Shot("request", TALL, keys=(*["down"] * 9, "enter")),
    Shot("request-light", TALL, keys=(*["down"] * 9, "enter"), theme=1),
    Shot("request-80x24", (80, 24), keys=(*["down"] * 9, "enter")),
    Shot("running", TALL, keys=("enter",)),
    Shot("compare", TALL, keys=(*["down"] * 9, "c", "down", "c")),
    Shot("help", TALL, keys=("question_mark",)),
)


def read(recording: Path) -> Store:
    """All of a recording."""
    return session_summary.read([recording])


class _FullCells(LineFilter):
    """Draws full blocks as a background: in a picture, the font leaves lines between rows."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells."""
        del background
        return [each for segment in segments for each in self._parts(segment)]

    def _parts(self, segment: Segment) -> Iterator[Segment]:
        style = segment.style or Style()
        for text in _BLOCKS.split(segment.text):
            if text.startswith("█") and style.color and not style.reverse:
                yield Segment(" " * len(text), style + Style(bgcolor=style.color))
            elif text:
                yield Segment(text, segment.style, segment.control)


class PicturedDashboard(Dashboard):
    """The dashboard as a terminal without gaps between its rows draws it."""

    CSS_PATH = str(ROOT / "tui" / "app.tcss")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The dashboard's, and one for pictures."""
        return [*super().get_line_filters(), _FullCells()]


def without_gaps(svg: str) -> str:
    """A picture whose blocks are rectangles, as high as their share of a line of cells."""

    def drawn(found: re.Match[str]) -> str:
        tag, kind, x, y, text = found.groups()
        plain = html.unescape(text)
        rectangles = [
            f'<rect class="{kind}" x="{float(x) + place * CELL_WIDTH:.2f}" '
            f'y="{float(y) + TOP + from_top * CELL_HEIGHT:.3f}" width="{CELL_WIDTH + 0.1}" '
            f'height="{share * CELL_HEIGHT:.3f}" shape-rendering="crispEdges"/>'
            for place, (from_top, share) in enumerate(map(_block, plain))
            if share
        ]
        if not rectangles:
            return found[0]
        rest = "".join("\xa0" if _block(each)[1] else each for each in plain)
        return "".join(rectangles) + f"{tag}{html.escape(rest)}</text>"

    return _TEXT.sub(drawn, svg)


def _block(char: str) -> tuple[float, float]:
    """Where a block begins below the top of its cell, and how high it is, as shares of a cell."""
    if char == "▀":
        return 0.0, 0.5
    eighths = _LOWER.find(char) + 1
    return 1 - eighths / 8, eighths / 8


@asynccontextmanager
async def shown(
    shot: Shot, recordings: Path = RECORDINGS, kind: type[Dashboard] = Dashboard
) -> AsyncIterator[Dashboard]:
    """The dashboard without a terminal, at what a picture shows."""
    recording = recordings / shot.recording
    expected = read(recording)
    replay = shot.replay_at is not None
    now_s = expected.last_ts - BEFORE_END_S
    app = kind([recording], clock=lambda: now_s, window=WINDOW, replay=replay)
    async with app.run_test(size=shot.size) as pilot:
        app.theme = THEME_NAMES[shot.theme]
        await loaded(pilot, app, expected.n_lines)
        if shot.replay_at is not None:
            length_s = expected.last_ts - expected.first_ts
            app.context.clock.hold_at(expected.first_ts + length_s * shot.replay_at)
        for key in shot.keys:
            await pilot.press(key)
            await pilot.pause()
        app.redraw_now()
        await pilot.pause()
        yield app


async def take(shot: Shot, folder: Path) -> Path:
    """Write what is shown as a PNG."""
    async with shown(shot, kind=PicturedDashboard) as app:
        svg = app.export_screenshot(title="mlxdeck")
    svg = without_gaps(svg).replace("Fira Code", FONT)
    png = folder / f"{shot.name}.png"
    png.write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM)))
    return png


async def loaded(pilot: Pilot[None], app: Dashboard, n_lines: int) -> None:
    """Wait until the dashboard has taken in as many lines, and has drawn them."""
    while app.store.n_lines < n_lines:
        await pilot.pause(0.02)
    app.redraw_now()
    await pilot.pause()


def _taken(shot: Shot) -> Path:
    os.environ["TZ"] = "UTC"
    time.tzset()
    return asyncio.run(take(shot, FOLDER))


def main(arguments: Sequence[str]) -> None:
    """Take all pictures, or those whose names are given, a few at the same time."""
    wanted = set(arguments)
    FOLDER.mkdir(exist_ok=True)
    shots = [shot for shot in SHOTS if not wanted or shot.name in wanted]
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for path in pool.map(_taken, shots):
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
