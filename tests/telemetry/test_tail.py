"""Following real files while they grow, are torn, cut, rotated and replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxdeck.telemetry.events import Tick
from mlxdeck.telemetry.tail import MAX_LINE_BYTES, Tail, read_line
from tests.streams import NAME, Made, Stream, write


def ticks(tail: Tail) -> list[int]:
    """The numbers in the ticks that have come."""
    attrs = [record.line.attrs for record in tail.poll()]
    return [each.active for each in attrs if isinstance(each, Tick)]


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
    assert tail.poll() == [] and tail.following == []
    folder.mkdir(parents=True)
    assert tail.poll() == []
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


def test_a_line_is_found_again_by_its_offset(tmp_path: Path) -> None:
    """Details are read when they are asked for; a file that is gone gives nothing."""
    path = write(tmp_path / NAME, [Made(1.0), Made(2.0)])
    records = Tail([path]).poll()
    assert len(records) == 8
    for record in records:
        assert record.line.event.encode() in read_line(record.path, record.offset)
    path.unlink()
    assert read_line(path, 0) == b""


def test_a_whole_folder_is_every_stream_in_it(tmp_path: Path) -> None:
    """For replays; otherwise the newest stands for it."""
    for number in range(3):
        append(tmp_path / f"mlxdeck-20260921-13132{number}-7.jsonl", tick(number))
    assert sorted(ticks(Tail([tmp_path], whole_folders=True))) == [0, 1, 2]
    assert len(ticks(Tail([tmp_path]))) == 1
