"""Servers of this machine that are gone without a word: the system is asked."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.alerts.hooks import AlertHooks
from mlxdeck.telemetry.alerts.stream_alarm import StreamAlarm
from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.alerts.watch import Alert
from mlxdeck.telemetry.analyze.report import Period
from mlxdeck.telemetry.columns.record_batch import RecordBatch, batch
from mlxdeck.telemetry.read.local_processes import BUSY_FRESH_S, FRESH_S, LocalProcesses, runs
from mlxdeck.telemetry.read.spool import new_folder
from mlxdeck.telemetry.read.tail import RECENT_S, Tail
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store
from tests.streams import NAME, START_TS, Made, Stream, write

HERE = platform.node()
WITHIN_S = 60.0


def ended_process() -> int:
    """The number of one that was, and is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def told(*lines: bytes, path: Path = Path("f")) -> RecordBatch:
    found = batch(path, b"".join(lines))
    assert found
    return found


def header(host: str = HERE, port: int = 8081) -> t.StreamStart:
    return t.StreamStart(model="m", host=host, server_address="127.0.0.1", server_port=port)


def test_a_process_runs_until_it_is_killed() -> None:
    """Also before its parent has noticed; a later one with the same number is another one."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert runs(process.pid, time.time())
        if sys.platform == "linux":
            assert not runs(process.pid, time.time() - 3600)
        process.kill()
        while sys.platform == "linux" and runs(process.pid, time.time()):
            time.sleep(0.01)
    assert not runs(process.pid, time.time())


def test_one_that_was_seen_is_missed_at_once_and_others_after_their_tick() -> None:
    """What writes though no process is here is in a container, and is left alone."""
    alive = {7}
    watch, stream = LocalProcesses(lambda pid, _: pid in alive), Stream(7)
    watch.note(told(stream.line(header(), 0), stream.tick(10)))
    assert watch.gone(START_TS + 10, WITHIN_S) == []
    alive.clear()
    assert watch.gone(START_TS + 10, WITHIN_S) == [(7, START_TS + 10)]
    # It writes on: it was another process that had its number.
    watch.note(told(stream.tick(20)))
    assert watch.gone(START_TS + 20 + FRESH_S, WITHIN_S) == []
    assert watch.gone(START_TS + 20.1 + FRESH_S, WITHIN_S) == [(7, START_TS + 20)]
    # While it works, it ticks every second.
    watch.note(told(stream.tick(40, active=1)))
    assert watch.gone(START_TS + 40 + BUSY_FRESH_S, WITHIN_S) == []
    assert watch.gone(START_TS + 40.1 + BUSY_FRESH_S, WITHIN_S) == [(7, START_TS + 40)]


@pytest.mark.parametrize("what", ["elsewhere", "no server", "stopped", "long ago", "a copy"])
def test_others_are_not_asked_for(what: str) -> None:
    """Servers of other machines, those that said that they stop, and those that are silent."""
    asked: list[int] = []
    watch, stream = LocalProcesses(lambda pid, _: pid in asked), Stream(7)
    start = header("other" if what == "elsewhere" else HERE, 0 if what == "no server" else 8081)
    lines = [stream.line(start, 0), stream.tick(10)]
    if what == "stopped":
        lines.append(stream.line(t.ServerStop(), 11))
    watch.note(told(*lines, path=new_folder() / "f" if what == "a copy" else Path("f")))
    now_s = 1000 if what == "long ago" else 25
    assert watch.gone(START_TS + now_s, WITHIN_S) == [] and not asked


def test_requests_of_a_process_that_is_gone_are_lost_unless_it_writes_on() -> None:
    """They end with its last line; the next one brings them back."""
    store, stream = Store(), Stream(7)
    start = stream.line(t.RequestStart(), 5, "req_1")
    store.feed([told(stream.line(header(), 0), start, stream.tick(10))])
    store.lose_processes([(7, START_TS + 10)])
    assert store.open_rows == [] and store.column("end_ts")[0] == START_TS + 10
    assert store.servers.is_gone and store.servers.stopped(START_TS + 11)
    store.feed([told(stream.tick(12))])
    assert store.open_rows == [0] and not store.servers.is_gone
    assert not store.servers.stopped(START_TS + 13)


class Delivered(AlertHooks):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Path | None]] = []

    def fire(self, alert: Alert, ts: float, file: Path | None) -> None:
        self.told.append((alert.name, file))


def test_who_is_told_of_it_is_told_the_file() -> None:
    """Also if no request has ended."""
    store, stream, hooks = Store(), Stream(7), Delivered()
    start = stream.line(t.RequestStart(), 5, "req_1")
    store.feed([told(stream.line(header(), 0), start, stream.tick(10))])
    store.lose_processes([(7, START_TS + 10)])
    StreamAlarm(Thresholds(), hooks).look(store, Period(START_TS, START_TS + 20))
    assert hooks.told == [("servers_died", Path("f"))]


@pytest.mark.parametrize("has_stopped", [False, True])
def test_old_news_of_a_process_that_is_gone_takes_nothing_back(has_stopped: bool) -> None:
    """It was heard since: it is there, or it said itself that it stops."""
    store, stream = Store(), Stream(7)
    start = stream.line(t.RequestStart(), 5, "req_1")
    store.feed([told(stream.line(header(), 0), start, stream.tick(10))])
    store.lose_processes([(7, START_TS + 10)])
    store.feed([told(stream.line(t.ServerStop(), 12) if has_stopped else stream.tick(12))])
    store.lose_processes([(7, START_TS + 10)])
    assert not store.servers.is_gone
    assert store.servers.stopped_ts(7) == (START_TS + 12 if has_stopped else 0)
    assert store.open_rows == ([] if has_stopped else [0])


def test_a_report_tells_what_was_lost_before_the_silence_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty seconds after the last line of a process that is no more."""
    at_s = time.time() - START_TS - 20
    stream = Stream(ended_process())
    start = stream.line(t.RequestStart(), at_s, "req_1")
    (tmp_path / NAME).write_bytes(b"".join([stream.line(header(), at_s - 1), start]))
    assert main(["report", str(tmp_path)]) == 0
    assert "1 lost with their server" in capsys.readouterr().out


def test_streams_before_the_newest_are_read_too_up_to_a_size(tmp_path: Path) -> None:
    """Those of a day: what a server left that was restarted."""
    import os

    paths = [write(tmp_path / NAME.replace("-7.", f"-{pid}."), [Made(10)], pid) for pid in range(5)]
    size = paths[0].stat().st_size
    for pid, age_s in enumerate((2 * RECENT_S, 3_000, 2_000, 1_000, 0)):
        os.utime(paths[pid], (START_TS - age_s,) * 2)

    def read(older_bytes: int) -> set[Path]:
        tail = Tail([tmp_path], older_bytes=older_bytes)
        assert sum(found.n_lines for found in tail.poll())
        tail.close()
        return set(tail.following)

    assert read(0) == {paths[4]}
    assert read(2 * size) == set(paths[2:])
    # The oldest is of another day.
    assert read(100 * size) == set(paths[1:])
