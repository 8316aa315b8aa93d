"""The dashboard over a long stream: how soon it shows something, how long it loads, its memory.

python -m tests.bench.dashboard [REQUESTS]
"""

from __future__ import annotations

import asyncio
import math
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.analyze.stats import WINDOWS, Window, summary
from mlxdeck.telemetry.analyze.time_series import TimeSeries
from mlxdeck.telemetry.query.filters import parse
from mlxdeck.tui.app import Dashboard, settle_memory
from mlxdeck.tui.state.request_query import RequestQuery
from mlxdeck.tui.widgets.request_table import RequestTable
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.bench.viewers import compare
from tests.streams import Made, Stream

N_REQUESTS = 1_000_000
SPACING_S = 0.5
KEY_PAUSE_S = 0.2
LOOK_S = 0.005
"""How often it is looked whether something has come."""
_MB = 1024 if sys.platform != "darwin" else 1024 * 1024


def generate(path: Path, n_requests: int) -> None:
    """A stream of made-up requests, the same each time."""
    stream, dice = Stream(), random.Random(1)
    with path.open("wb") as file:
        file.write(stream.header())
        for number in range(n_requests):
            made = Made(
                number * SPACING_S,
                dice.lognormvariate(0.5, 1),
                dice.randint(100, 20_000),
                dice.randint(0, 100),
                dice.randint(1, 400),
                cache=dice.choice(["miss", "prefix", "exact"]),
                tool=dice.choice(["", "Read", "Bash"]),
            )
            file.write(b"".join(stream.request(made, number)))


def dashboard(n_requests: int = N_REQUESTS) -> None:
    """Everything against its budget; those are for a million requests."""
    heading(f"Dashboard over {n_requests:,} requests")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlxdeck-20260921-131320-7.jsonl"
        generate(path, n_requests)
        settle_memory()
        print(f"file                            {path.stat().st_size / 1e6:8.0f} MB")
        loading_ms = asyncio.run(_shown(path, n_requests))
        figure("dashboard_key", max(loading_ms, asyncio.run(_used(path, n_requests))))
        _computed(path)
        compare(path, n_requests)


async def _shown(path: Path, n_requests: int) -> float:
    """Load it; return the milliseconds of the slowest key meanwhile."""
    began_s = time.perf_counter()
    app = Dashboard([path], clock=lambda: 1_790_000_000 + n_requests * SPACING_S, window="all")
    answered: list[float] = []
    first_s = 0.0
    async with app.run_test(size=(120, 36)):
        pressed_s = began_s
        while app.store.n < n_requests:
            await asyncio.sleep(LOOK_S)
            if app.store.n and not first_s:
                first_s = time.perf_counter() - began_s
            if time.perf_counter() - pressed_s < KEY_PAUSE_S:
                continue
            # As a key: behind what waits for the application already.
            answer, pressed_s = asyncio.Event(), time.perf_counter()
            app.call_later(answer.set)
            await answer.wait()
            answered.append(time.perf_counter() - pressed_s)
        loaded_s = time.perf_counter() - began_s
    answered.sort()
    print(f"a key while it loads, median    {answered[len(answered) // 2] * 1000:8.0f} ms")
    figure("dashboard_first", first_s)
    figure("dashboard_all", loaded_s)
    print(f"a key while it loads, slowest   {answered[-1] * 1000:8.0f} ms")
    held_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
    figure("dashboard_memory", held_mb)
    return answered[-1] * 1000


@contextmanager
def _timed_turns() -> Iterator[list[float]]:
    """The seconds of each turn of the event loop: so long a key may have to wait."""
    took_s: list[float] = []
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.events.Handle) -> None:
        began_s = time.perf_counter()
        run(handle)
        took_s.append(time.perf_counter() - began_s)

    asyncio.events.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield took_s
    finally:
        asyncio.events.Handle._run = run  # type: ignore[method-assign]


async def _used(path: Path, n_requests: int) -> float:
    """Keys on all of it; returns how long one held up the next at most, in milliseconds.

    Told besides: what all takes that it asks for, which is done in many turns.
    """
    slowest_ms = 0.0
    end_ts = 1_790_000_000 + n_requests * SPACING_S
    app = Dashboard([path], clock=lambda: end_ts, window="all", replay=True, speed=math.inf)
    async with app.run_test(size=(120, 36)) as pilot:
        while app.store.n < n_requests or app.context.source.loaded < 1:
            await asyncio.sleep(KEY_PAUSE_S)
        await pilot.pause()
        keys: dict[str, Callable[[], object]] = {
            "a key: filter by a free word": lambda: app.filter_by("bas"),
            "a key: filter by its next letter": lambda: app.filter_by("bash"),
            "a key: filter by error": lambda: app.filter_by("status:error or latency>9s"),
            "a key: no filter": lambda: app.filter_by(""),
            "a key: another window": app.action_window,
            "a key: all of it again": lambda: _choose_window(app, WINDOWS[-1]),
            "a key: seek to the start": app.action_go_start,
            "a key: seek to the end": app.action_go_end,
            "a key: seek to the middle": lambda: app._seek("50%"),
            "a key: cursor down": lambda: app.screen.query_one(RequestTable).action_move(1),
            "a key: list what the verdict is of": partial(app.screen.run_action, "verdict"),
            "a key: list all again": lambda: app.filter_by(""),
            **{
                f"a key: show {name}": partial(app.screen.run_action, f"panel('{name}')")
                for name in dict.fromkeys([*app.context.ways.hidden, "timeline"])
            },
            "a key: sessions": app.action_sessions,
        }
        with _timed_turns() as turns_s:
            for name, act in keys.items():
                turns_s.clear()
                if isawaitable(asked := act()):
                    await asked
                await pilot.pause()
                while app._parts is not None:
                    await asyncio.sleep(LOOK_S)
                held_ms, work_ms = max(turns_s) * 1000, sum(turns_s) * 1000
                slowest_ms = max(slowest_ms, held_ms)
                print(f"{name:<36}{held_ms:6.0f} ms, all of its work {work_ms:6.0f} ms")
    return slowest_ms


def _choose_window(app: Dashboard, window: Window) -> None:
    app.context.window = window
    app.redraw_now()


def _computed(path: Path) -> None:
    store = read([path])
    listing, end_ts, known = RequestQuery(store), store.last_ts, TimeSeries(15)
    wanted = parse("latency>2s status:ok tool:Read")
    works: dict[str, Callable[[], Any]] = {
        "figures of an hour": lambda: summary(store, WINDOWS[3], end_ts),
        "figures of everything": lambda: summary(store, WINDOWS[-1], end_ts),
        "chart of everything": lambda: TimeSeries(15).series(store, WINDOWS[-1], end_ts, 120),
        "chart of everything, moved on": lambda: known.series(store, WINDOWS[-1], end_ts, 120),
        "filter": lambda: wanted.mask(store),
        "seek to the middle": lambda: listing.rows((store.first_ts + end_ts) / 2),
    }
    for name, work in works.items():
        took_s = []
        for _ in range(5):
            began_s = time.perf_counter()
            work()
            took_s.append(time.perf_counter() - began_s)
        print(f"{name:<32}{statistics.median(took_s) * 1000:8.1f} ms")


if __name__ == "__main__":
    dashboard(*map(int, sys.argv[1:]))
