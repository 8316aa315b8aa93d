"""Pictures of the real dashboard over recordings, for the README: `make shots`.

    python -m tests.shots [NAME...]

The clock stands just before the recording's server stops, so that a run gives the same pictures
again, of a server that runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from textual.pilot import Pilot

from mlxdeck.telemetry.analyze import session_summary
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.app import Dashboard

ROOT = Path(__file__).parent.parent
RECORDINGS = ROOT / "tests" / "data"
FOLDER = ROOT / "screenshots"
FONT = "DejaVu Sans Mono"
"""Has braille and box drawing, and is everywhere; the pictures name a font that must be fetched."""
ZOOM = 2
BEFORE_END_S = 0.2
WINDOW = "5m"
"""What the recording is long."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: its file, the size in cells, and what is pressed first."""

    name: str
    size: tuple[int, int] = (120, 36)
    keys: tuple[str, ...] = ()
    recording: str = "recording.jsonl"
    replay_at: float | None = None
    """The share of the recording at which a replay stands; None shows it live."""


CAPTURED = "captured.jsonl"
SHOTS = (
    Shot("dashboard"),
    Shot("dashboard-light", keys=("d",)),
    Shot("dashboard-80x24", (80, 24)),
    Shot("dashboard-250x60", (250, 60), keys=("3", "6")),
    Shot("dashboard-log", keys=("l",)),
    Shot("cursor", keys=("o", "shift+tab", "shift+tab", *["left"] * 17, "enter")),
    Shot("replay", replay_at=0.6),
    Shot("replay-80x24", (80, 24), replay_at=0.6),
    Shot("filter", keys=("slash", *"cache:prefix latency>1s")),
    Shot("sessions", keys=("s",)),
    Shot("compare", (120, 48), keys=("down", "c", "down", "down", "c"), recording=CAPTURED),
    Shot("request", (120, 48), keys=("down", "down", "enter"), recording=CAPTURED),
    Shot("request-light", (120, 48), keys=("d", "down", "down", "enter"), recording=CAPTURED),
    Shot("request-80x24", (80, 24), keys=("down", "down", "enter"), recording=CAPTURED),
    Shot("help", (120, 48), keys=("question_mark",)),
    Shot("filter-help", (120, 48), keys=("slash", "f1")),
)


def read(recording: Path) -> Store:
    """All of a recording."""
    return session_summary.read([recording])


@asynccontextmanager
async def shown(shot: Shot, recordings: Path = RECORDINGS) -> AsyncIterator[Dashboard]:
    """The dashboard without a terminal, at what a picture shows."""
    recording = recordings / shot.recording
    expected = read(recording)
    replay = shot.replay_at is not None
    now_s = expected.last_ts - BEFORE_END_S
    app = Dashboard([recording], clock=lambda: now_s, window=WINDOW, replay=replay)
    async with app.run_test(size=shot.size) as pilot:
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


async def take(shot: Shot, folder: Path) -> None:
    """Write what is shown, as SVG and as PNG."""
    async with shown(shot) as app:
        svg = app.export_screenshot(title="mlxdeck")
    svg = svg.replace("Fira Code", FONT)
    (folder / f"{shot.name}.svg").write_text(svg, encoding="utf-8")
    png = resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM)
    (folder / f"{shot.name}.png").write_bytes(bytes(png))


async def loaded(pilot: Pilot[None], app: Dashboard, n_lines: int) -> None:
    """Wait until the dashboard has taken in as many lines, and has drawn them."""
    while app.store.n_lines < n_lines:
        await pilot.pause(0.02)
    app.redraw_now()
    await pilot.pause()


def main(arguments: Sequence[str]) -> None:
    """Take all pictures, or those whose names are given."""
    wanted = set(arguments)
    os.environ["TZ"] = "UTC"
    time.tzset()
    FOLDER.mkdir(exist_ok=True)
    for shot in SHOTS:
        if not wanted or shot.name in wanted:
            asyncio.run(take(shot, FOLDER))
            print(FOLDER / f"{shot.name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
