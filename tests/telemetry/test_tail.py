"""Following real files while they grow, are torn, cut, rotated and replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlxdeck.telemetry.analyze import session_summary
from mlxdeck.telemetry.analyze.raw_lines import lines_of
from mlxdeck.telemetry.columns.record_batch import batch as of_bytes
from mlxdeck.telemetry.read import parallel_reader
from mlxdeck.telemetry.read.followed_file import NEWEST_BYTES, FollowedFile
from mlxdeck.telemetry.read.line_buffer import MAX_LINE_BYTES
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.store.store import Store
from tests.streams import NAME, Made, Stream, write


def ticks(tail: Tail) -> list[int]:
    """The numbers in the ticks that have come."""
    return [line.attrs.active for batch in tail.poll() for line in batch.ticks]


def append(path: Path, raw: bytes) -> None:
    """Add bytes to a file."""
    with open(path, "ab") as file:
        file.write(raw)


def tick(number: int) -> bytes:
    """A line with a number in it."""
    return Stream().tick(number, active=number)


def test_a_file_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    """Neither folder nor file need exist when the tailing begins."""
    folder = tmp_path / "not" / "yet"
    tail = Tail([folder])
    assert ticks(tail) == [] and tail.following == []
    folder.mkdir(parents=True)
    assert ticks(tail) == []
    append(folder / NAME, tick(1))
    assert ticks(tail) == [1]
    assert tail.following == [folder / NAME]


def test_a_torn_line_is_held_back_until_it_is_whole(tmp_path: Path) -> None:
    """Bytes without their newline wait, however they are cut."""
    path, raw = tmp_path / NAME, tick(1) + tick(2)
    tail = Tail([path])
    seen = []
    for i in range(len(raw)):
        append(path, raw[i : i + 1])
        seen += ticks(tail)
    assert seen == [1, 2]


def test_a_truncated_file_is_read_from_its_start_again(tmp_path: Path) -> None:
    """What is written after a truncation is not missed."""
    path = tmp_path / NAME
    append(path, tick(1) + tick(2))
    tail = Tail([path])
    assert ticks(tail) == [1, 2]
    os.truncate(path, 0)
    append(path, tick(3))
    assert ticks(tail) == [3]


def test_what_is_written_again_is_not_told_twice(tmp_path: Path) -> None:
    """A file that is truncated and written anew with the same lines, and one more call."""
    path = tmp_path / NAME
    stream, made = Stream(), Made(9, tool="Read")
    lines = stream.request(made, 0)
    append(path, b"".join(lines))
    store, tail = Store(), Tail([path])
    store.feed(tail.poll())
    os.truncate(path, 0)
    assert not list(tail.poll())
    append(path, b"".join([*lines, *stream.request(made, 1)]))
    store.feed(tail.poll())
    assert store.n == 2 and [row.row for row in store.tool_calls] == [0, 1]


def test_a_last_line_needs_no_newline(tmp_path: Path) -> None:
    """It is read when it is whole; the newline that comes later is no line."""
    path, raw = tmp_path / NAME, tick(1) + tick(2)
    append(path, raw[:-1])
    tail = Tail([path])
    assert ticks(tail) == [1, 2] and ticks(tail) == []
    append(path, b"\n" + tick(3))
    assert ticks(tail) == [3] and tail.n_bad == 0


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    """Rotation by renaming loses no line of either file."""
    path = tmp_path / NAME
    append(path, tick(1))
    tail = Tail([path])
    assert ticks(tail) == [1]
    append(path, tick(2))
    path.rename(tmp_path / "old.jsonl")
    append(path, tick(3))
    assert ticks(tail) == [2, 3]


def test_a_folder_is_followed_from_its_newest_stream_on(tmp_path: Path) -> None:
    """Older streams are left alone; each one that appears later is followed too."""
    for number, name in enumerate((NAME, NAME.replace("131320", "131325"))):
        append(tmp_path / name, tick(number))
        os.utime(tmp_path / name, (number, number))
    append(tmp_path / "notes.jsonl", tick(99))
    tail = Tail([tmp_path])
    assert ticks(tail) == [1]
    append(tmp_path / NAME.replace("131320", "131330"), tick(2))
    append(tmp_path / NAME.replace("131320", "131325"), tick(3))
    assert sorted(ticks(tail)) == [2, 3]


def test_what_is_followed_is_read_without_a_look_at_its_folder(tmp_path: Path) -> None:
    """A folder is listed less often; what has come there meanwhile is found then."""
    append(tmp_path / NAME, tick(1))
    tail = Tail([tmp_path])
    assert ticks(tail) == [1]
    append(tmp_path / NAME, tick(2))
    append(tmp_path / NAME.replace("131320", "131330"), tick(3))
    seen = [line for batch in tail.poll(looks=False) for line in batch.ticks]
    assert [line.attrs.active for line in seen] == [2]
    assert ticks(tail) == [3]


def test_two_writers_are_both_read(tmp_path: Path) -> None:
    """Several files at once, each in its own order."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    append(first, tick(1))
    append(second, tick(10))
    tail = Tail([first, second])
    assert sorted(ticks(tail)) == [1, 10]
    append(second, tick(11))
    append(first, tick(2))
    assert sorted(ticks(tail)) == [2, 11]


@pytest.mark.parametrize(
    "bad", [b"{oops\n", b"\xff\xfe\n", b"[]\n", b'{"v":1}\n', b'{"v":1,"ts":"x","attrs":{}}\n']
)
def test_a_bad_line_is_counted_and_kept(tmp_path: Path, bad: bytes) -> None:
    """It is never fatal, and what comes after it is read."""
    path = tmp_path / NAME
    append(path, tick(1) + bad + b"\n" + tick(2))
    tail = Tail([path])
    assert ticks(tail) == [1, 2]
    assert tail.n_bad == 1
    assert tail.bad[0].offset == len(tick(1)) and tail.bad[0].reason


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"gen_ai.usage.input_tokens":100', b'"gen_ai.usage.input_tokens":9999999999'),
        (b'"gen_ai.usage.input_tokens":100', b'"gen_ai.usage.input_tokens":-1'),
        (b'"gen_ai.server.request.duration":1.0', b'"gen_ai.server.request.duration":1e300'),
        (b'"mlx.tool_calls":1', b'"mlx.tool_calls":70000'),
        (b'"ts":1790000009.0', b'"ts":1e99'),
        (b'"request_id":"req_7_0000"', b'"request_id":"%b"' % (b"x" * 101)),
    ],
)
def test_a_figure_beyond_all_measure_is_a_bad_line(tmp_path: Path, was: bytes, now: bytes) -> None:
    """It is told apart, and what comes with it is read."""
    *lines, end = Stream().request(Made(9.0, tool="Read"), 0)
    bad = end.replace(was, now)
    assert bad != end
    append(tmp_path / NAME, b"".join(lines) + bad + tick(1))
    tail, store = Tail([tmp_path]), Store()
    store.feed(tail.poll())
    assert tail.n_bad == 1 and len(store.ticks) == 1 and store.n == 1
    assert store.open_rows == [0] and store.n_unknown == 0


def test_an_endless_line_is_skipped(tmp_path: Path) -> None:
    """A line beyond all measure doesn't fill the memory."""
    path = tmp_path / NAME
    append(path, tick(1) + b"x" * (MAX_LINE_BYTES + 100))
    tail = Tail([path])
    seen = []
    for _ in range(6):
        seen += ticks(tail)
    append(path, b"x\n" + tick(2))
    assert seen + ticks(tail) == [1, 2]


def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    """The message names both versions."""
    path = tmp_path / NAME
    append(path, tick(1).replace(b'"v":1', b'"v":9'))
    tail = Tail([path])
    assert ticks(tail) == []
    assert "9" in tail.refused and NAME in tail.refused and tail.n_bad == 0


def test_a_request_is_found_again_in_its_file(tmp_path: Path) -> None:
    """Details are read when they are asked for; a file that is gone gives nothing."""
    stream = Stream()
    requests = [stream.request(Made(end_s), number) for number, end_s in enumerate((1.0, 2.0))]
    path = tmp_path / NAME
    # Two requests at once: their lines stand between each other's.
    append(path, stream.header() + b"".join(map(b"".join, zip(*requests, strict=True))))
    store = session_summary.read([path])
    for row, lines in enumerate(requests):
        assert [line + b"\n" for line in lines_of(store, row)] == lines
    path.unlink()
    assert lines_of(store, 0) == []


def test_a_request_that_goes_on_in_another_file_is_found_whole(tmp_path: Path) -> None:
    """A rotation in the middle of a request loses none of its lines."""
    lines = Stream().request(Made(2.0, tool="Read"), 0)
    for number, part in enumerate((lines[:2], lines[2:])):
        append(tmp_path / f"mlxdeck-20260921-13132{number}-7.jsonl", b"".join(part))
    tail, store = Tail([tmp_path], whole_folders=True), Store()
    store.feed(tail.poll())
    assert store.n == 1 and len(store.spans(0)) == 2
    assert [line + b"\n" for line in lines_of(store, 0)] == lines


def test_the_end_of_a_long_file_is_read_first(tmp_path: Path) -> None:
    """Then its beginning; every line comes once, and what is added meanwhile is not missed."""
    path = tmp_path / NAME
    n_ticks = 3 * NEWEST_BYTES // len(tick(0))
    append(path, b"".join(tick(number) for number in range(n_ticks)))
    tail = Tail([path], newest_first=True)
    seen = [line.attrs.active for line in next(tail.poll(1 << 20)).ticks]
    assert seen[0] > n_ticks // 2
    append(path, tick(n_ticks))
    assert tail.unread_bytes > 0
    while more := ticks(tail):
        seen += more
    assert sorted(seen) == list(range(n_ticks + 1)) and tail.unread_bytes == 0


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("n_frames", [None, 0, 2])
def test_a_long_file_is_read_by_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest_first: bool, n_frames: int | None
) -> None:
    """It comes to the same, also when they are ended from outside after some of it."""
    monkeypatch.setattr(parallel_reader, "HELPED_BYTES", 1 << 19)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("mlxdeck.telemetry.read.followed_file.NEWEST_BYTES", 100_000)
    path = tmp_path / NAME
    made = [Made(n / 10, tool="Read") for n in range(5000)]
    write(path, made)
    raw = path.read_bytes()
    path.write_bytes(raw[:700_000] + b"\n{torn\n" + raw[700_000:])
    tail, store, plain = Tail([path], newest_first=newest_first), Store(), Store()
    polled = tail.poll()
    if n_frames is not None:
        for _ in range(1 + n_frames):
            store.feed([next(polled)])
        (file,) = tail._files.values()
        assert isinstance(file, FollowedFile)
        assert len(file._old) == 2
        for part in file._old:
            assert part._process
            part._process.kill()
    store.feed(polled)
    while tail.unread_bytes:
        store.feed(tail.poll(1 << 18))
    tail.close()
    plain.feed([batch for batch in [of_bytes(path, path.read_bytes())] if batch])
    assert tail.n_bad == 3 and store.n == plain.n == len(made)
    for row in range(store.n):
        other = plain.row_of(store.ids[row])
        assert other is not None and store.spans(row) == plain.spans(other)
        for name in ("start_ts", "duration_s", "outcome"):
            value, expected = store.column(name)[row], plain.column(name)[other]
            assert np.array_equal(value, expected, equal_nan=True)
        for name in ("tools", "session", "model", "served"):
            assert store.text(name, row) == plain.text(name, other)


def test_a_helper_ends_with_the_tailing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is left."""
    monkeypatch.setattr(parallel_reader, "HELPED_BYTES", 1)
    monkeypatch.setattr("mlxdeck.telemetry.read.followed_file.NEWEST_BYTES", 1000)
    path = write(tmp_path / NAME, [Made(n) for n in range(9000)])
    tail = Tail([path])
    next(tail.poll())
    (file,) = tail._files.values()
    assert isinstance(file, FollowedFile)
    process = file._old[0]._process
    assert process and process.poll() is None
    tail.close()
    assert process.returncode is not None


def test_a_whole_folder_is_every_stream_in_it(tmp_path: Path) -> None:
    """For replays; otherwise the newest stands for it."""
    for number in range(3):
        append(tmp_path / f"mlxdeck-20260921-13132{number}-7.jsonl", tick(number))
    assert sorted(ticks(Tail([tmp_path], whole_folders=True))) == [0, 1, 2]
    assert len(ticks(Tail([tmp_path]))) == 1


def test_an_older_stream_that_goes_on_is_followed(tmp_path: Path) -> None:
    """Another server may write beside the newest one; what is over stays unread."""
    over, older, newest = (tmp_path / f"mlxdeck-20260921-13132{n}-7.jsonl" for n in range(3))
    for n, path in enumerate((over, older, newest)):
        append(path, tick(n))
        os.utime(path, (1000 + n, 1000 + n))
    tail = Tail([tmp_path])
    assert ticks(tail) == [2] and ticks(tail) == []
    append(older, tick(11))
    assert ticks(tail) == [1, 11]
    assert set(tail.following) == {older, newest}


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """Also if it is named twice, by itself and by its folder, or by a link."""
    path = tmp_path / NAME
    append(path, tick(1))
    (tmp_path / "link.jsonl").symlink_to(path)
    assert ticks(Tail([path, tmp_path, tmp_path / "link.jsonl"])) == [1]
