"""Nothing that was recorded gets lost, and nothing that goes wrong on the disk gets out."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mlxdeck.telemetry.schema.codec import Line, decode
from mlxdeck.telemetry.schema.events import (
    Content,
    RequestEnd,
    RequestStart,
    ServerStop,
    StreamStart,
    Tick,
)
from mlxdeck.telemetry.schema.file_names import stream_files
from mlxdeck.telemetry.write.emitter import Emitter, NullWriter
from mlxdeck.telemetry.write.records import Part
from mlxdeck.telemetry.write.writer import MemoryWriter, Writer

HEADER = StreamStart(model="m", server_port=8081)


def read(folder: Path) -> list[Line]:
    """All lines of all files, in the order of the files."""
    paths = sorted(stream_files(folder), key=lambda path: read_file(path)[0].seq)
    return [line for path in paths for line in read_file(path)]


def read_file(path: Path) -> list[Line]:
    """The lines of one file, each of which must be whole."""
    return [decode(line) for line in path.read_bytes().splitlines()]


def ticks(lines: list[Line]) -> list[int]:
    """What the ticks among some lines carry."""
    return [line.attrs.active for line in lines if isinstance(line.attrs, Tick)]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for the writer's thread; the test's own time-out ends a wait in vain."""
    while not condition():
        time.sleep(0.002)


class Disk:
    """Stands in for `os.write`: takes what it is told to take."""

    def __init__(self) -> None:
        self.room: float = float("inf")
        self._write = os.write

    def write(self, fd: int, data: bytes) -> int:
        """Write what there is room for; without any, fail as a full disk does."""
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = self._write(fd, data[: int(min(len(data), self.room))])
        self.room -= n
        return n


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that can be full."""
    disk = Disk()
    monkeypatch.setattr("mlxdeck.telemetry.write.rotating_file.os.write", disk.write)
    yield disk
    disk.room = float("inf")


def test_a_file_from_start_to_stop(tmp_path: Path) -> None:
    """A file begins with its header, numbers its lines, and ends with the reason."""
    writer = Writer(tmp_path / "t", HEADER)
    writer.emit(Tick(active=1))
    writer.emit(RequestEnd(outcome="ok"), "req_1", "s1")
    writer.close("SIGTERM")
    assert writer.path is not None
    lines = read_file(writer.path)
    assert [line.event for line in lines] == ["stream.start", "tick", "request.end", "server.stop"]
    assert [line.seq for line in lines] == [0, 1, 2, 3]
    assert {line.pid for line in lines} == {os.getpid()}
    assert lines[0].attrs == HEADER
    assert (lines[2].request_id, lines[2].session_id) == ("req_1", "s1")
    assert isinstance(lines[3].attrs, ServerStop)
    assert lines[3].attrs.reason == "SIGTERM"
    assert lines[3].attrs.uptime_s > 0


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    """Prompts may be in it: 0600 in a folder of 0700, whatever the umask says."""
    old = os.umask(0)
    try:
        writer = Writer(tmp_path / "a" / "t", HEADER)
    finally:
        os.umask(old)
    writer.close()
    assert writer.path is not None
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(writer.path.parent.stat().st_mode) == 0o700


def test_name_tells_when_and_who(tmp_path: Path) -> None:
    """A second file in the same second gets a counter."""
    writers = [Writer(tmp_path, HEADER, clock=lambda: 1_790_000_000.0) for _ in range(3)]
    for writer in writers:
        writer.close()
    stem = f"mlxdeck-20260921-141320-{os.getpid()}"
    names = [writer.path.name for writer in writers if writer.path]
    assert names == [f"{stem}.jsonl", f"{stem}-1.jsonl", f"{stem}-2.jsonl"]


def test_events_carry_the_time_of_emit(tmp_path: Path) -> None:
    """However late the disk is, the times are those of the event."""
    times = iter(float(n) for n in range(100, 200))
    writer = Writer(tmp_path, HEADER, clock=lambda: next(times), monotonic=lambda: next(times))
    writer.emit(Tick())
    writer.close()
    lines = read(tmp_path)
    assert [line.mono - line.ts for line in lines[1:]] == [1.0, -1.0]
    assert lines[0].ts < lines[1].ts < lines[2].ts


def test_lines_are_written_at_once(tmp_path: Path) -> None:
    """A reader sees an event without any flush or close."""
    writer = Writer(tmp_path, HEADER)
    writer.emit(Tick(active=7))
    path = writer.path
    assert path is not None
    wait_until(lambda: len(path.read_bytes().splitlines()) == 2)
    assert ticks(read_file(path)) == [7]
    writer.close()


def test_full_file_is_followed_by_another(tmp_path: Path) -> None:
    """Each file has a header that names the one before, and the numbers go on without a gap."""
    writer = Writer(tmp_path, HEADER, max_bytes=1000, keep_files=100)
    for n in range(50):
        writer.emit(Tick(active=n + 1))
    writer.close()
    lines = read(tmp_path)
    assert ticks(lines) == list(range(1, 51))
    assert [line.seq for line in lines] == list(range(len(lines)))
    headers = [line.attrs for line in lines if isinstance(line.attrs, StreamStart)]
    paths = sorted(stream_files(tmp_path), key=lambda path: read_file(path)[0].seq)
    assert len(paths) == len(headers) > 3
    assert [header.previous_file for header in headers[1:]] == [path.name for path in paths[:-1]]
    assert all(path.stat().st_size < 1300 for path in paths)


def test_oldest_files_are_removed(tmp_path: Path) -> None:
    """Only so many files stay, and files with other names are not ours to touch."""
    others = [tmp_path / "mlxdeck-notes.jsonl", tmp_path / "mine.jsonl", tmp_path / "x.txt"]
    old = tmp_path / "mlxdeck-20200101-000000-1.jsonl"
    for path in [*others, old]:
        path.write_text("x")
        os.utime(path, (1, 1))
    writer = Writer(tmp_path, HEADER, max_bytes=1000, keep_files=3)
    for n in range(50):
        writer.emit(Tick(active=n + 1))
    writer.close()
    assert len(stream_files(tmp_path)) == 3
    assert not old.exists()
    assert all(path.exists() for path in others)
    assert ticks(read(tmp_path))[-1] == 50


def test_file_in_use_is_not_the_oldest(tmp_path: Path) -> None:
    """What counts is the last write: the file of a long-lived server outlives those of others."""
    long_lived = Writer(tmp_path, HEADER, clock=lambda: 1.0)
    path = long_lived.path
    assert path is not None
    for _ in range(5):
        os.utime(path, (4e9, 4e9))
        Writer(tmp_path, HEADER, keep_files=2).close()
    long_lived.close()
    assert path in stream_files(tmp_path)
    assert len(stream_files(tmp_path)) == 2


def test_full_disk_is_survived(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are dropped and counted, with one warning, and recording goes on by itself."""
    writer = Writer(tmp_path, HEADER)
    writer.emit(Tick(active=1))
    wait_until(lambda: ticks(read(tmp_path)) == [1])
    disk.room = 0
    for n in range(20):
        writer.emit(Tick(active=100 + n))
    wait_until(lambda: writer.dropped_lines == 20)
    disk.room = float("inf")
    writer.emit(Tick(active=2))
    writer.close()
    lines = read(tmp_path)
    assert ticks(lines) == [1, 2]
    assert [line.seq for line in lines] == [0, 1, 22, 23]
    assert isinstance(lines[-1].attrs, ServerStop)
    assert lines[-1].attrs.dropped_lines == 20
    messages = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(messages) == 2
    assert "No space left" in messages[0]
    assert "recorded again" in messages[1]


def test_torn_line_does_not_spoil_the_next(tmp_path: Path, disk: Disk) -> None:
    """When the disk fills up within a line, the next one still stands on its own."""
    writer = Writer(tmp_path, HEADER)
    disk.room = 30
    writer.emit(Tick(active=1))
    wait_until(lambda: writer.dropped_lines == 1)
    disk.room = float("inf")
    writer.emit(Tick(active=2))
    writer.close()
    raw = stream_files(tmp_path)[0].read_bytes().splitlines()
    assert len(raw) == 4
    assert len(raw[1]) == 30
    assert ticks([decode(raw[2])]) == [2]


def test_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a line in pieces still gets all of it."""
    write = os.write
    monkeypatch.setattr(
        "mlxdeck.telemetry.write.rotating_file.os.write", lambda fd, data: write(fd, data[:7])
    )
    writer = Writer(tmp_path, HEADER)
    writer.emit(Tick(active=1))
    writer.close()
    assert ticks(read(tmp_path)) == [1]
    assert writer.dropped_lines == 0


def test_disk_that_is_full_from_the_start(tmp_path: Path, disk: Disk) -> None:
    """The server starts all the same, no file without a header is left, and one comes later."""
    disk.room = 10
    writer = Writer(tmp_path, HEADER)
    assert writer.path is None
    assert stream_files(tmp_path) == []
    disk.room = float("inf")
    writer.emit(Tick(active=1))
    writer.close()
    assert [line.event for line in read(tmp_path)] == ["stream.start", "tick", "server.stop"]


def test_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A path that is no folder costs the events, not the server."""
    (tmp_path / "t").write_text("in the way")
    writer = Writer(tmp_path / "t", HEADER)
    writer.emit(Tick())
    writer.close()
    assert (writer.path, writer.dropped_lines) == (None, 2)
    assert len(caplog.records) == 1


def test_deleted_file_is_replaced(tmp_path: Path) -> None:
    """Who clears the folder while the server runs gets a new file, folder included."""
    folder = tmp_path / "t"
    writer = Writer(folder, HEADER)
    assert writer.path is not None
    writer.path.unlink()
    folder.rmdir()
    writer.emit(Tick(active=1))
    writer.close()
    assert [line.event for line in read(folder)] == ["stream.start", "tick", "server.stop"]


def test_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk hangs, `emit` returns at once, and what finds no room leaves a gap."""
    write, hang, entered = os.write, threading.Event(), threading.Event()

    def slow(fd: int, data: bytes) -> int:
        entered.set()
        hang.wait()
        return write(fd, data)

    writer = Writer(tmp_path, HEADER, max_queued=3)
    monkeypatch.setattr("mlxdeck.telemetry.write.rotating_file.os.write", slow)
    writer.emit(Tick(active=1))
    entered.wait()
    for n in range(2, 10):
        writer.emit(Tick(active=n))
    assert writer.dropped_lines == 5 and writer.failing
    hang.set()
    writer.close()
    lines = read(tmp_path)
    assert ticks(lines) == [1, 2, 3, 4]
    assert [line.seq for line in lines] == [0, 1, 2, 3, 4, 10]


def test_close_does_not_wait_for_a_dead_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopping takes bounded time, and says that lines may be missing."""
    write, hang = os.write, threading.Event()

    def slow(fd: int, data: bytes) -> int:
        hang.wait()
        return write(fd, data)

    writer = Writer(tmp_path, HEADER)
    monkeypatch.setattr("mlxdeck.telemetry.write.rotating_file.os.write", slow)
    monkeypatch.setattr("mlxdeck.telemetry.write.writer.CLOSE_TIMEOUT_S", 0.05)
    writer.emit(Tick())
    writer.close()
    assert "did not take the last lines" in caplog.text
    hang.set()
    writer.close()
    assert [line.event for line in read(tmp_path)] == ["stream.start", "tick", "server.stop"]


def test_a_part_without_a_json_form_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A conversation may be nested deeper than anybody can write."""

    def deep() -> str:
        raise RecursionError("too deep")

    writer = Writer(tmp_path, HEADER)
    bad = Part("message", "user", "h", deep)
    writer.emit(RequestStart(), "r1", parts=[bad, *parts("a")])
    writer.close()
    assert told(stream_files(tmp_path)[0]) == ["hash-a"]
    assert writer.dropped_lines == 1 and "too deep" in caplog.text


def test_text_that_is_no_unicode_costs_no_event(tmp_path: Path) -> None:
    """Half a character out of a client's or a model's text is replaced, not the event lost."""
    writer = Writer(tmp_path, HEADER)
    writer.emit(RequestStart(model="\ud83d", seed=2**70), "r\udc80", "s\ud83d\ude00")
    writer.close()
    (line,) = (line for line in read(tmp_path) if line.event == "request.start")
    assert isinstance(line.attrs, RequestStart)
    assert (line.attrs.model, line.attrs.seed) == ("\ufffd", 2**63 - 1)
    assert (line.request_id, line.session_id) == ("r\ufffd", "s\U0001f600")
    assert writer.dropped_lines == 0


def test_a_bug_in_what_makes_an_event_costs_that_event_alone(tmp_path: Path) -> None:
    """Whatever it raises; the gap says it."""
    writer = Writer(tmp_path, HEADER)
    for n, fault in enumerate((AttributeError, KeyError, ValueError, RecursionError)):

        def broken(fault: type[Exception] = fault) -> Tick:
            raise fault

        writer.emit(broken)
        writer.emit(Tick(active=n))

    def lost(_: str) -> Part:
        raise AttributeError

    writer.emit(Tick(active=4), parts=map(lost, "x"))
    writer.emit(Tick(active=5))
    writer.close()
    lines = read(tmp_path)
    assert ticks(lines) == [0, 1, 2, 3, 4, 5] and writer.dropped_lines == 5
    assert [line.seq for line in lines] == [0, 2, 4, 6, 8, 9, 11, 12]


def test_behind_a_slow_disk_events_are_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes them may hold a whole request; what can't be made costs who emits it nothing.

    Nor do parts of conversations wait then; that some were lost shows in the numbers of lines.
    """
    write, hang, entered, made = os.write, threading.Event(), threading.Event(), list[int]()

    def slow(fd: int, data: bytes) -> int:
        entered.set()
        hang.wait()
        return write(fd, data)

    def late(n: int) -> Tick:
        made.append(n)
        return Tick(active=n)

    writer = Writer(tmp_path, HEADER, max_queued=6)
    monkeypatch.setattr("mlxdeck.telemetry.write.rotating_file.os.write", slow)
    monkeypatch.setattr("mlxdeck.telemetry.write.writer.MAX_HELD_BYTES", 100)
    # One alone may hold any number.
    writer.emit(partial(late, 9), parts=parts("a"), held_bytes=101)
    entered.wait()
    made.clear()
    for n in range(3):
        writer.emit(partial(late, n), held_bytes=1)
    assert made == [0, 1, 2]
    writer.emit(lambda: Tick(active=int("none")), held_bytes=1)
    writer.emit(lambda: Tick(active=dict[int, int]()[0]), held_bytes=1)
    assert writer.dropped_lines == 2
    # What is made later, and holds nothing.
    monkeypatch.setattr("mlxdeck.telemetry.write.writer.MAX_HELD_BYTES", 1000)
    writer.emit(partial(late, 3))
    writer.emit(partial(late, 4), parts=parts("b"), held_bytes=899)
    writer.emit(partial(late, 5), parts=parts("c"), held_bytes=1)
    assert made == [0, 1, 2, 5] and writer.dropped_lines == 3
    writer.emit(partial(late, 6), held_bytes=1)
    assert made == [0, 1, 2, 5] and writer.dropped_lines == 4
    hang.set()
    while writer._held_bytes:
        time.sleep(0.001)
    writer.emit(partial(late, 7), parts=parts("c"), held_bytes=1001)
    writer.close()
    assert ticks(lines := read(tmp_path)) == [9, 0, 1, 2, 3, 4, 5, 7]
    told = [line.attrs.hash for line in lines if isinstance(line.attrs, Content)]
    assert told == ["hash-a", "hash-b", "hash-c"]
    assert [line.seq for line in lines] == [*range(6), *range(8, 11), 12, *range(14, 17)]


def test_event_without_a_json_form_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the code that emits must not end the recording."""
    writer = Writer(tmp_path, HEADER)
    writer.emit(RequestEnd(error_type=object()))  # type: ignore[arg-type]
    writer.emit(Tick(active=1))
    writer.close()
    assert ticks(read(tmp_path)) == [1]
    assert writer.dropped_lines == 1
    assert "no JSON form" in caplog.text


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    """What they lead to belongs to somebody else, also by a name like ours."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    precious = elsewhere / "mlxdeck-20200101-000000-1.jsonl"
    precious.write_text("x")
    folder = tmp_path / "t"
    folder.mkdir()
    link = folder / "mlxdeck-20200101-000000-2.jsonl"
    link.symlink_to(precious)
    (tmp_path / "linked").symlink_to(elsewhere)
    for where in (folder, tmp_path / "linked"):
        writer = Writer(where, HEADER, max_bytes=500, keep_files=1)
        for n in range(10):
            writer.emit(Tick(active=n + 1))
        writer.close()
    assert link.is_symlink() and precious.read_text() == "x"
    assert len(stream_files(folder)) == 1
    assert len(stream_files(elsewhere)) == 2


def test_every_folder_that_is_made_is_the_owners_alone(tmp_path: Path) -> None:
    """Also those above the one that is asked for."""
    Writer(tmp_path / "a" / "b" / "c", HEADER).close()
    for folder in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def parts(*names: str) -> list[Part]:
    """Parts of a conversation, each with a text that says its name."""
    return [Part("message", "user", f"hash-{name}", partial(str, f'["{name}"]')) for name in names]


def told(path: Path) -> list[str]:
    """The hashes of the parts that a file tells, in order."""
    return [line.attrs.hash for line in read_file(path) if isinstance(line.attrs, Content)]


def test_a_file_tells_each_part_that_its_requests_have(tmp_path: Path) -> None:
    """Once, and again after each rotation, so that it can be read when the ones before are gone."""
    writer = Writer(tmp_path, HEADER, max_bytes=2000, keep_files=3)
    for n in range(60):
        names = ["system", *map(str, range(n % 7))]
        start = RequestStart(message_hashes=tuple(part.hash for part in parts(*names)))
        writer.emit(start, f"r{n}", parts=parts(*names))
    writer.close()
    files = stream_files(tmp_path)
    assert len(files) == 3 and writer.dropped_lines == 0 and told(files[0])
    for path in files:
        lines = read_file(path)
        hashes = told(path)
        assert len(hashes) == len(set(hashes))
        for line in lines:
            if isinstance(line.attrs, RequestStart):
                assert set(line.attrs.message_hashes) <= set(hashes)
    numbers = [line.seq for path in files for line in read_file(path)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_part_that_the_disk_refused_is_told_later(tmp_path: Path, disk: Disk) -> None:
    """It counts as told only once it is written."""
    writer = Writer(tmp_path, HEADER)
    wait_until(lambda: writer.path)
    disk.room = 0
    writer.emit(RequestStart(), "r1", parts=parts("a"))
    wait_until(lambda: writer.dropped_lines == 2)
    assert "No space left" in writer.failing
    disk.room = float("inf")
    writer.emit(RequestStart(), "r2", parts=parts("a", "b"))
    writer.emit(RequestStart(), "r3", parts=parts("b"))
    writer.close()
    assert told(stream_files(tmp_path)[0]) == ["hash-a", "hash-b"]
    assert writer.failing == ""


def test_events_after_close_are_counted(tmp_path: Path) -> None:
    """A request that ends after the server has stopped does no harm, and closing twice neither."""
    writer = Writer(tmp_path, HEADER)
    writer.close()
    writer.close()
    writer.emit(Tick())
    assert writer.dropped_lines == 1
    assert [line.event for line in read(tmp_path)] == ["stream.start", "server.stop"]


def test_many_threads(tmp_path: Path) -> None:
    """Any thread may emit; the lines come out whole and in the order of their numbers."""
    writer = Writer(tmp_path, HEADER, max_queued=100_000)

    def emit() -> None:
        for n in range(500):
            writer.emit(Tick(active=n))

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    lines = read(tmp_path)
    assert [line.seq for line in lines] == list(range(4002))
    assert sum(ticks(lines)) == 8 * sum(range(500))


SERVER = """
import sys, time
from pathlib import Path
from mlxdeck.telemetry.schema.events import RequestEnd, StreamStart
from mlxdeck.telemetry.write.records import Part
from mlxdeck.telemetry.write.writer import Writer

writer = Writer(Path(sys.argv[1]), StreamStart(), max_bytes=int(sys.argv[3]), keep_files=10_000)
for n in range(int(sys.argv[2])):
    writer.emit(RequestEnd(response_id="x" * (200 if n % 2 else 9000)), f"req_{n}")
    time.sleep(0 if n % 50 else 0.001)
if len(sys.argv) > 4:
    print("all emitted", flush=True)
    time.sleep(600)
writer.close()
"""


def spawn(folder: Path, n_events: int, max_bytes: int, *wait: str) -> subprocess.Popen[str]:
    """Start a process that writes telemetry as a server does."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    args = [str(folder), str(n_events), str(max_bytes), *wait]
    return subprocess.Popen(
        [sys.executable, "-c", SERVER, *args], env=environ, stdout=subprocess.PIPE, text=True
    )


def test_killed_process_loses_nothing_it_has_written(tmp_path: Path) -> None:
    """After kill -9 every line that was handed over is there, and whole."""
    with spawn(tmp_path, 300, 10**9, "wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "all emitted\n"
        path = stream_files(tmp_path)[0]
        wait_until(lambda: path.read_bytes().count(b"\n") == 301)
        process.send_signal(signal.SIGKILL)
    lines = read_file(path)
    assert [line.request_id for line in lines[1:]] == [f"req_{n}" for n in range(300)]


def test_killed_in_the_middle_leaves_whole_lines(tmp_path: Path) -> None:
    """A kill at any moment leaves a gapless start of the stream."""
    with spawn(tmp_path, 10**6, 10**9) as process:
        wait_until(lambda: stream_files(tmp_path))
        path = stream_files(tmp_path)[0]
        wait_until(lambda: path.stat().st_size > 200_000)
        process.send_signal(signal.SIGKILL)
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    lines = [decode(line) for line in whole.splitlines()]
    kept = [line for line in lines if line.event == "request.end"]
    assert len(kept) > 20
    assert [line.seq for line in lines] == sorted({line.seq for line in lines})


def test_four_processes_share_a_folder(tmp_path: Path) -> None:
    """Each has its own files, and no line of one gets into another's."""
    processes = [spawn(tmp_path, 400, 300_000) for _ in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    by_pid: dict[int, list[Line]] = {}
    for path in stream_files(tmp_path):
        lines = read_file(path)
        assert lines[0].event == "stream.start"
        assert {line.pid for line in lines} == {lines[0].pid}
        by_pid.setdefault(lines[0].pid, []).extend(lines)
    assert set(by_pid) == {process.pid for process in processes}
    for lines in by_pid.values():
        lines.sort(key=lambda line: line.seq)
        assert [line.seq for line in lines] == list(range(len(lines)))
        ids = [line.request_id for line in lines if line.event == "request.end"]
        assert ids == [f"req_{n}" for n in range(400)]


def test_doubles_fit_the_protocol() -> None:
    """Telemetry that is off, and telemetry in memory, stand where a writer stands."""
    memory = MemoryWriter()
    doubles: list[Emitter] = [NullWriter(), memory]
    for double in doubles:
        double.emit(Tick(active=3), "r", "s")
        double.close()
        assert (double.path, double.dropped_lines) == (None, 0)
    assert [line.request_id for line in memory.named("tick")] == ["r"]
    assert memory.named("request.end") == []
    assert memory.closed
