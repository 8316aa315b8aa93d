"""What users name as a recording, judged before anything is read or drawn."""

from __future__ import annotations

import stat
from pathlib import Path

from mlxdeck.telemetry.read import standard_input
from mlxdeck.telemetry.read.decompression import SUFFIXES, method_of
from mlxdeck.telemetry.read.recognition import EXPECTED, ForeignData, head_of, kind_of
from mlxdeck.telemetry.transcripts.transcript_files import projects_in

_STREAM_SUFFIXES = (".jsonl", ".ndjson")


class NoStream(ValueError):
    """A place that holds no telemetry; the text says why."""


def check_place(place: Path, *, may_come: bool = False, is_named: bool = True) -> None:
    """Raises `NoStream` if nothing there can be read.

    A place that `may_come` need not be there. One that the user didn't name is the folder of a
    server, which will write there, whatever lies in it.
    """
    if standard_input.is_meant(place):
        if standard_input.is_terminal():
            raise NoStream("nothing is piped into standard input, for which - stands")
        return
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        if may_come:
            return
        raise NoStream(f"no such file or folder: {place}") from None
    except OSError as error:
        raise NoStream(f"{place} can't be read: {error.strerror}") from error
    try:
        if stat.S_ISDIR(mode):
            _check_folder(place, is_named)
        elif stat.S_ISREG(mode):
            _check_file(place)
    except OSError as error:
        raise NoStream(f"{place} can't be read: {error.strerror}") from error


def _check_folder(folder: Path, is_named: bool) -> None:
    """An empty one may be filled by a server."""
    if projects_in(folder):
        return
    names = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    if is_named and names and not any(map(is_stream_name, names)):
        more = ", ..." if names[2:] else ""
        held = ", ".join(names[:2])
        raise NoStream(f"no recording in {folder}, which holds {held}{more}; {EXPECTED}")


def _check_file(path: Path) -> None:
    head = head_of(path)
    if not method_of(head):
        try:
            kind_of(head, n_odd=1)
        except ForeignData as error:
            raise NoStream(f"{path} {error}") from error


def is_stream_name(name: str) -> bool:
    """Whether a file in a folder may be a recording."""
    return Path(without_suffix(name)).suffix in _STREAM_SUFFIXES and not name.startswith(".")


def without_suffix(name: str) -> str:
    """The name of a file before it was compressed."""
    return name if Path(name).suffix not in SUFFIXES else Path(name).stem
