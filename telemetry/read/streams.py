"""Whole recordings at once: files, and all streams of folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlxdeck.telemetry.read.tail import BadLine, Tail
from mlxdeck.telemetry.schema.file_names import FILE_NAME
from mlxdeck.telemetry.store.store import Store

SUFFIX = ".jsonl"
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How files of gzip and zstd begin."""


class NoStream(ValueError):
    """A place that holds no telemetry; the text says why."""


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


class GrowingStreams:
    """Files, and all streams of folders, as far as they are written by now. For one thread."""

    def __init__(self, places: Sequence[Path]) -> None:
        """Folders whose files have other names than the server's are read as they are now.

        Raises:
            NoStream: A place is not there.
        """
        self.store = Store()
        paths = dict.fromkeys(path for place in places for path in _followed(place))
        self._tails = [Tail([path], whole_folders=True) for path in paths]

    def read(self) -> Store:
        """Take in what is new.

        Raises:
            NoStream: A file can't be read, or is no stream of telemetry.
        """
        for tail in self._tails:
            while self.store.feed(tail.poll()):
                pass
            if tail.refused:
                raise NoStream(tail.refused)
            if tail.n_bad and not tail.n_lines:
                raise NoStream(_why(tail.bad[0]))
        return self.store

    @property
    def n_bad(self) -> int:
        """Lines that could not be read."""
        return sum(tail.n_bad for tail in self._tails)

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails:
            tail.close()


def _followed(place: Path) -> list[Path]:
    files = files_of(place)
    is_own = all(FILE_NAME.fullmatch(each.name) for each in files)
    return [place] if place.is_dir() and is_own else files


def read_streams(places: Sequence[Path]) -> Store:
    """Everything that files and folders hold by now; raises as `GrowingStreams`."""
    streams = GrowingStreams(places)
    try:
        return streams.read()
    finally:
        streams.close()


def _why(bad: BadLine) -> str:
    with bad.path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_COMPRESSED):
        return f"{bad.path} is compressed: decompress it first"
    return f"{bad.path} is no stream of telemetry: {bad.reason}"
