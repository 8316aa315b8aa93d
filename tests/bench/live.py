"""The dashboard on a stream that grows: how soon an event is on the screen, and what that costs."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlxdeck.telemetry.schema.codec import encode
from mlxdeck.telemetry.schema.events import RequestStart, StreamStart
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.widgets.request_table import RequestTable
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.corpora.day.stream import DayEvent, day
from tests.streams import NAME, START_TS, Stream

EVENTS_PER_S = 500
HOURS = 2.0
"""More than are written."""
PID = 7
SECONDS = 12.0
IDLE_S = 12.0
PULSE_S = 0.02


class Writer(threading.Thread):
    """Appends what happens on a made-up day to a stream, at a steady rate."""

    def __init__(self, path: Path, now_s: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._now_s = now_s
        n_events = int(SECONDS * EVENTS_PER_S) + 1
        told = (event for event in day(HOURS) if not isinstance(event.attrs, StreamStart))
        self._events = list(itertools.islice(told, n_events))
        self.written_s: list[float] = []
        """When each request's first line was written."""

    def run(self) -> None:
        """Write as many events as are due, until the time is over."""
        n_events, began_s = 0, time.perf_counter()
        with self._path.open("ab", buffering=0) as file:
            while (passed_s := time.perf_counter() - began_s) < SECONDS:
                while n_events < passed_s * EVENTS_PER_S:
                    event = self._events[n_events]
                    n_events += 1
                    file.write(self._line(event, n_events))
                    if isinstance(event.attrs, RequestStart):
                        self.written_s.append(time.perf_counter())
                time.sleep(PULSE_S)

    def _line(self, event: DayEvent, number: int) -> bytes:
        now_s = self._now_s()
        return encode(
            event.attrs,
            ts=START_TS + now_s,
            mono=now_s,
            seq=number,
            pid=PID,
            request_id=event.request_id,
            session_id=event.session_id,
        )


async def _measured(path: Path) -> None:
    began_s = time.perf_counter()

    def now_s() -> float:
        return time.perf_counter() - began_s

    app = Dashboard([path], clock=lambda: START_TS + now_s())
    async with app.run_test(size=(140, 50)):
        await asyncio.sleep(2)
        writer = Writer(path, now_s)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        writer.start()
        table, shown_s = app.screen.query_one(RequestTable), list[float]()
        while writer.is_alive() or len(shown_s) < len(writer.written_s):
            await asyncio.sleep(0.005)
            shown_s += [time.perf_counter()] * (table.n_items - len(shown_s))
        busy = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        waits = sorted(b - a for a, b in zip(writer.written_s, shown_s, strict=True))
        cpu_s = time.process_time()
        await asyncio.sleep(IDLE_S)
        idle = (time.process_time() - cpu_s) / IDLE_S
    print(f"requests written                {len(waits):8,}")
    median_ms, late_ms = (waits[int(len(waits) * share)] * 1000 for share in (0.5, 0.95))
    print(f"event to screen, median         {median_ms:8.0f} ms")
    print(f"a core while events come        {busy:8.1%}   (with the writer)")
    figure("live_screen", late_ms)
    figure("live_idle", idle)


def live() -> None:
    """Against the budgets."""
    heading(f"Dashboard on a live stream, {EVENTS_PER_S} events a second")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(Stream().header())
        asyncio.run(_measured(path))


if __name__ == "__main__":
    live()
