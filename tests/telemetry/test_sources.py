"""Recordings that are no plain files: pipes, compressed files, other texts, folders of all."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.read import decompression, recognition, spool
from mlxdeck.telemetry.read.decompression import DamagedData, Decompression, method_of, zstd
from mlxdeck.telemetry.read.places import NoStream, check_place
from mlxdeck.telemetry.read.streams import GrowingStreams
from mlxdeck.telemetry.read.tail import Tail
from mlxdeck.telemetry.store.store import Store
from tests.streams import NAME, Made, Stream, read_streams, write

MADE = [Made(n, tool="Read") for n in range(1, 6)]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd.compress}


@pytest.fixture
def recording(tmp_path: Path) -> bytes:
    """The bytes of five requests."""
    path = write(tmp_path / NAME, MADE)
    raw = path.read_bytes()
    path.unlink()
    return raw


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    st.sampled_from(sorted(COMPRESS)),
    st.integers(1, 60),
)
def test_members_come_out_as_they_went_in(parts: list[bytes], suffix: str, step: int) -> None:
    """However many there are, and however they are cut; what lacks an end is torn."""
    packed = b"".join(map(COMPRESS[suffix], parts))
    for end in (len(packed), len(packed) - 1):
        unpacking = Decompression(method_of(packed))
        found = [
            piece
            for at in range(0, end, step)
            for piece in unpacking.pieces(packed[at : min(at + step, end)])
        ]
        assert b"".join(parts).startswith(b"".join(found))
        assert unpacking.torn == (end < len(packed))
    assert b"".join(found) == b"".join(parts) or unpacking.torn


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_grows_out_of_all_proportion_is_stopped(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes that would fill a disk."""
    monkeypatch.setattr(decompression, "UNJUDGED_BYTES", 1 << 20)
    packed = COMPRESS[suffix](b"\0" * (20 << 20))
    unpacking, n_bytes = Decompression(method_of(packed)), 0
    monkeypatch.setattr(decompression, "MAX_RATIO", 100)
    with pytest.raises(DamagedData, match="times"):
        for piece in unpacking.pieces(packed):
            n_bytes += len(piece)
    assert n_bytes <= 3 << 20


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_recording_is_a_recording(
    tmp_path: Path, recording: bytes, suffix: str
) -> None:
    """Also in two members; requests are read again from the copy, which is this user's alone."""
    half = recording.index(b"\n", len(recording) // 2) + 1
    pack, path = COMPRESS[suffix], tmp_path / f"{NAME}{suffix}"
    path.write_bytes(pack(recording[:half]) + pack(recording[half:]))
    streams = GrowingStreams([path])
    store = streams.read()
    assert store.n == len(MADE) and streams.n_bad == 0 and not streams.notes
    assert detail(store, 0)["tool_calls"][0]["name"] == "Read"
    (copy,) = streams.files
    assert copy.name == NAME and copy.read_bytes() == recording
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.parent.stat().st_mode & 0o777 == 0o700
    streams.close()
    spool.remove()
    assert not copy.exists()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_torn_or_damaged_file_is_read_as_far_as_it_goes(
    tmp_path: Path, recording: bytes, suffix: str
) -> None:
    """It is said that something is missing."""
    packed = COMPRESS[suffix](recording)
    for rest, said in ((packed[: len(packed) // 2], "middle"), (packed + b"?????", "else")):
        path = tmp_path / f"{said}.jsonl{suffix}"
        path.write_bytes(COMPRESS[suffix](recording) + rest)
        streams = GrowingStreams([path])
        assert streams.read().n == len(MADE)
        notes = streams.notes
        assert said in notes[0] and path.name in notes[0]
        streams.close()
        assert streams.notes == notes


def test_a_fifo_is_followed_until_its_writer_ends(tmp_path: Path, recording: bytes) -> None:
    """No look at it waits, neither for a writer nor for bytes."""
    path = tmp_path / "live"
    os.mkfifo(path)
    tail, store = Tail([path]), Store()
    assert not store.feed(tail.poll()) and tail.pending
    with path.open("wb", buffering=0) as writer:
        lines = recording.splitlines(keepends=True)
        for n_written, line in enumerate(lines, 1):
            writer.write(line)
            store.feed(tail.poll())
            assert store.n_lines == n_written and tail.pending
    assert not store.feed(tail.poll()) and not tail.pending and store.n == len(MADE)
    tail.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_read_to_its_end(
    tmp_path: Path, recording: bytes, pack: Callable[[bytes], bytes]
) -> None:
    """By commands that print; what comes in may be compressed."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(pack(recording),))
    writer.start()
    assert read_streams([path]).n == len(MADE)
    writer.join()


def test_a_line_that_never_ends_is_no_telemetry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doesn't fill the disk either."""
    monkeypatch.setattr(recognition, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(b"x" * (8 << 20)))
    with pytest.raises(NoStream, match="one long line"):
        read_streams([path])


BEFORE = {
    "a torn line": (b'{"v":1,"ts":17\n', 1),
    "another program's": (b'{"level":"info"}\n' * 3, 3),
    "a long line": (b"x" * 700_000 + b"\n", 1),
    "a line that is longer than all else is judged by": (b"x" * 3_000_000 + b"\n", 1),
    "zeros of a crash": (b"\0" * 100_000 + b"\n", 1),
    "many lines": (b"garbage\n" * 20_000, 20_000),
    "a picture's mark": (b"\x89PNG\n", 1),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("before", "n_bad"), BEFORE.values(), ids=BEFORE)
def test_a_recording_that_begins_with_something_else_is_read(
    before: bytes, n_bad: int, pack: Callable[[bytes], bytes], tmp_path: Path, recording: bytes
) -> None:
    """The lines in front are counted as bad ones, as they are elsewhere."""
    path = tmp_path / "begun.jsonl"
    path.write_bytes(pack(before + recording))
    check_place(path)
    streams = GrowingStreams([path])
    assert (streams.read().n, streams.n_bad) == (len(MADE), n_bad)
    streams.close()


def test_a_pipe_is_judged_once_there_is_enough_of_it(tmp_path: Path, recording: bytes) -> None:
    """Not by the lines that happen to come first."""
    path = tmp_path / "live"
    os.mkfifo(path)
    tail, store = Tail([path]), Store()
    store.feed(tail.poll())
    with path.open("wb", buffering=0) as writer:
        writer.write(b"garbage\nmore\n")
        assert not store.feed(tail.poll()) and not tail.refused
        writer.write(recording)
        store.feed(tail.poll())
    assert (store.n, tail.n_bad) == (len(MADE), 2)
    tail.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("line", [b"garbage\n" * 9, b'{"a":1}\n' * 9, b"x" * 3_000_000])
def test_what_holds_no_event_within_bounds_is_none(
    line: bytes, pack: Callable[[bytes], bytes], tmp_path: Path, recording: bytes
) -> None:
    """However long it is, and though an event should follow; it is called as the user did."""
    path = tmp_path / "what.jsonl"
    for raw in (line, b"x\n" * recognition.JUDGED_BYTES + recording):
        path.write_bytes(pack(raw))
        with pytest.raises(NoStream, match=r"what\.jsonl.*; expected") as refused:
            read_streams([path])
        assert "spool" not in str(refused.value)


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n\n", b"\xef\xbb\xbf\r\n"])
def test_marks_and_line_ends_of_other_systems_cost_no_line(
    tmp_path: Path, recording: bytes, before: bytes
) -> None:
    """A mark in front, also where two files were joined, and CRLF."""
    path = tmp_path / "windows.jsonl"
    path.write_bytes(before + recording.replace(b"\n", b"\r\n") + before + Stream(8).header())
    streams = GrowingStreams([path])
    store = streams.read()
    assert (store.n, streams.n_bad) == (len(MADE), 0)
    assert store.n_lines == recording.count(b"\n") + 1
    assert detail(store, 0)["tool_calls"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('{"v":1}\n'.encode("utf-16"), "UTF-16"),
        ('{"v":1}\n'.encode("utf-16-le"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG"),
        (b"PK\x03\x04\0\0", "ZIP"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"\x01\x02\0\x04" * 99, "binary"),
        (b"# notes\n\nhello\n", "no event"),
        (b'{"a":1}\n{"b":2}\n', "no event"),
    ],
)
def test_what_is_no_recording_is_told(tmp_path: Path, raw: bytes, said: str) -> None:
    """By its own name, with what was expected instead."""
    path = tmp_path / "what"
    path.write_bytes(raw)
    with pytest.raises(NoStream, match=said) as refused:
        check_place(path)
    assert str(path) in str(refused.value)
    tail = Tail([path])
    assert not list(tail.poll()) and said in tail.refused
    (tmp_path / "packed.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(NoStream, match=said):
        read_streams([tmp_path / "packed.gz"])


def test_a_folder_is_all_that_is_in_it(tmp_path: Path) -> None:
    """Whatever its files are called; what is no recording is told."""
    packed = gzip.compress(b"".join(Stream(8).request(Made(8), 1)))
    (tmp_path / f"{NAME}.gz").write_bytes(packed)
    (tmp_path / "other.jsonl").write_bytes(b"".join(Stream(9).request(Made(9), 1)))
    (tmp_path / "old.jsonl.zst").write_bytes(zstd.compress(Stream(7).request(Made(9), 1)[0]))
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "list.jsonl").write_text('{"a":1}\n' * 3)
    streams = GrowingStreams([tmp_path])
    assert streams.read().n == 3
    assert any("notes.txt" in note for note in streams.notes)
    assert any("list.jsonl" in note for note in streams.notes)
    streams.close()


def test_a_folder_without_a_recording_is_told(tmp_path: Path) -> None:
    """What it holds, and what was expected; one that is empty may be filled."""
    check_place(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(NoStream, match=r"holds a\.txt; expected"):
        check_place(tmp_path)
    with pytest.raises(NoStream, match="no such file"):
        check_place(tmp_path / "none")
    check_place(tmp_path / "none", may_come=True)
