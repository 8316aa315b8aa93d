"""The line at the top: what it leaves out where there is little room."""

from __future__ import annotations

import os
from pathlib import Path

from textual.content import Content

from mlxdeck.telemetry.analyze.stats import WINDOWS, summary
from mlxdeck.telemetry.mirror.mirror import Mirror
from mlxdeck.telemetry.mirror.server_files import ServerFiles
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.present.status_line import StatusPart, fitted, parts
from mlxdeck.tui.present.verdict import Look, verdicts
from mlxdeck.tui.present.view_model import no_stream
from mlxdeck.tui.state.beside import Beside
from mlxdeck.tui.text.format import clock
from tests.streams import NAME, START_TS, Made, Stream, read_streams, write
from tests.tui.running import Running

PARTS = [
    StatusPart(Content("mlxdeck  live"), Content("live")),
    StatusPart(Content("P95 8.87s is over 5.00s"), Content("1 alert")),
    StatusPart(Content("12 bad lines"), Content("12 bad")),
    StatusPart(Content("smollm2 on cpu")),
    StatusPart(Content("8k")),
]


def test_what_presses_is_told_before_what_is_only_good_to_know() -> None:
    """In few words first; nothing of less weight takes the place of something of more."""
    told = {width: fitted(PARTS, width).plain for width in range(4, 90)}
    assert all(len(text) <= width for width, text in told.items())
    assert told[4] == "live"
    assert told[16] == "live  │  1 alert"
    assert told[27] == "live  │  1 alert  │  12 bad"
    assert told[52] == "mlxdeck  live  │  P95 8.87s is over 5.00s  │  12 bad"
    assert told[89].endswith("smollm2 on cpu  │  8k")
    # Something short does not overtake something that does not fit.
    assert all("8k" not in text or "smollm2" in text for text in told.values())


def test_a_server_elsewhere_that_is_down_is_not_live(tmp_path: Path) -> None:
    """Before anything was copied and after; it is told since when, until it answers again."""
    mirror = Mirror(ServerFiles("http://127.0.0.1:9"), tmp_path)
    app = Dashboard([tmp_path], beside=Beside(mirrors=[mirror]))
    ctx, why = app.context, "http://127.0.0.1:9: Connection refused"
    assert "answers, but has written no event" in no_stream(ctx)
    mirror.missed(why)
    mirror.trouble_ts = START_TS + 40
    mirror.missed(why)
    assert why in no_stream(ctx) and f"since {clock(START_TS + 40)}." in no_stream(ctx)
    app = Dashboard([tmp_path], clock=lambda: START_TS + 45, beside=Beside(mirrors=[mirror]))
    ctx = app.context
    ctx.store = read_streams([write(tmp_path / NAME, [Made(30)])])
    ctx.source.following = [NAME]
    assert next(parts(ctx)).text.plain == "mlxdeck  ✗ not reached"
    now_s = START_TS + 45
    look = Look(ctx, now_s, summary(ctx.store, WINDOWS[-1], now_s))
    assert next(verdicts(look)).text.startswith(f"{why}, since ")
    mirror.trouble = ""
    assert next(parts(ctx)).text.plain == "mlxdeck  ● live"


async def test_a_fifo_waits_for_its_writer(tmp_path: Path) -> None:
    """It is not live, and the screen says what it waits for."""
    path = tmp_path / "events"
    os.mkfifo(path)
    app = Dashboard([path], clock=lambda: START_TS + 1)
    async with app.run_test(size=(80, 24)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.context.source.is_waiting)
        assert "Waiting for a writer" in run.text
        assert next(parts(app.context)).text.plain == "mlxdeck  ○ waiting"
        with path.open("wb", buffering=0) as writer:
            writer.write(Stream().header())
            await run.until(lambda: app.store.n_lines > 0)
            assert next(parts(app.context)).text.plain == "mlxdeck  ● live"
