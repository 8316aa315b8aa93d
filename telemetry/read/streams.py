"""Whole recordings at once: files, and all streams of folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.telemetry.read.tail import BadLine, Tail
from mlxdeck.telemetry.schema.file_names import FILE_NAME
from mlxdeck.telemetry.store.store import Store

SUFFIX = ".jsonl"
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How files of gzip and zstd begin."""


class NoStream(ValueError):
    """A place that holds no telemetry; the text says why."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What some files hold."""

    store: Store
    files: tuple[Path, ...]
    n_bad: int
    """Lines that could not be read."""
    bad: tuple[BadLine, ...]
    """Some of them."""


def files_of(place: Path) -> list[Path]:
    """The streams of a folder, by their names or else by their suffix; or a file itself.

    Raises:
        NoStream: There is nothing like that.
    """
    if not place.exists():
        raise NoStream(f"no such file or folder: {place}")
    if not place.is_dir():
        return [place]
    try:
        files = sorted(each for each in place.iterdir() if each.suffix == SUFFIX)
    except OSError as error:
        raise NoStream(f"{place} can't be read: {error.strerror}") from error
    own = [each for each in files if FILE_NAME.fullmatch(each.name)]
    return own or files


def read_streams(places: Sequence[Path]) -> Streams:
    """Everything that files and folders hold by now.

    Raises:
        NoStream: A file can't be read, or is no stream of telemetry.
    """
    files = list(dict.fromkeys(path for place in places for path in files_of(place)))
    store, tails = Store(), list[Tail]()
    for path in files:
        tail = Tail([path])
        n_before = store.n_lines
        while store.feed(tail.poll()):
            pass
        tail.close()
        tails.append(tail)
        if tail.refused:
            raise NoStream(tail.refused)
        if tail.n_bad and store.n_lines == n_before:
            raise NoStream(_why(path, tail.bad[0]))
    bad = tuple(line for tail in tails for line in tail.bad)
    return Streams(store, tuple(files), sum(tail.n_bad for tail in tails), bad)


def _why(path: Path, bad: BadLine) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_COMPRESSED):
        return f"{path} is compressed: decompress it first"
    return f"{path} is no stream of telemetry: {bad.reason}"
