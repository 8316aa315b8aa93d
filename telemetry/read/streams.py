"""Whole recordings at once: files, pipes, and all streams of folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mlxdeck.telemetry.read import standard_input
from mlxdeck.telemetry.read.local_processes import LocalProcesses
from mlxdeck.telemetry.read.places import NoStream, check_place
from mlxdeck.telemetry.read.recognition import EXPECTED
from mlxdeck.telemetry.read.tail import BadLine, Tail
from mlxdeck.telemetry.store.process_lives import SILENT_S
from mlxdeck.telemetry.store.store import Store

WAIT_S = 0.02


class GrowingStreams:
    """Files, and all streams of folders, as far as they are written by now. For one thread."""

    def __init__(self, places: Sequence[Path]) -> None:
        """Raises `NoStream` if a place is not there, or nothing was piped in."""
        self.store = Store()
        self._processes = LocalProcesses()
        for place in places:
            check_place(place)
        self._tails = {place: Tail([place], whole_folders=True) for place in dict.fromkeys(places)}

    def read(self, *, wait: bool = True) -> Store:
        """Take in what is new; `wait` for the end of pipes.

        Raises:
            NoStream: A file can't be read, or is no stream of telemetry.
        """
        for place, tail in self._tails.items():
            while True:
                n_lines = self.store.feed(map(self._processes.note, tail.poll()))
                if tail.refused:
                    raise NoStream(tail.refused)
                if n_lines or tail.unread_bytes:
                    continue
                if not (wait and tail.pending):
                    break
                time.sleep(WAIT_S)
            if tail.n_bad and not tail.n_lines:
                raise NoStream(_why(place, tail.bad[0]))
            if tail.notes and not tail.n_lines:
                raise NoStream("; ".join(tail.notes))
            if not tail.n_lines and _holds_something(place, tail):
                raise NoStream(f"no recording in {_named(place)}; {EXPECTED}")
        now_ts = time.time()
        self.store.lose_processes(self._processes.gone(now_ts, SILENT_S))
        self.store.lose_silent(now_ts)
        return self.store

    @property
    def files(self) -> list[Path]:
        """Plain files that hold all lines, also of what is none."""
        return [path for tail in self._tails.values() for path in tail.following]

    @property
    def n_bad(self) -> int:
        """Lines that could not be read."""
        return sum(tail.n_bad for tail in self._tails.values())

    @property
    def notes(self) -> list[str]:
        """What else a person should know: what was cut off, or skipped."""
        return [note for tail in self._tails.values() for note in tail.notes]

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()


def _holds_something(place: Path, tail: Tail) -> bool:
    """Whether there are bytes of which nothing was read; of a folder, that it has no streams."""
    if place.is_dir():
        return not tail.following
    return any(path.stat().st_size for path in tail.following or [place])


def _why(place: Path, bad: BadLine) -> str:
    # What is no plain file is read from a copy, whose path means nothing to anybody.
    named = bad.path if place.is_dir() else _named(place)
    return f"{named} is no stream of telemetry: {bad.reason}; {EXPECTED}"


def _named(place: Path) -> Path | str:
    return standard_input.NAME if standard_input.is_meant(place) else place
