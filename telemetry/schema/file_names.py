"""How files of telemetry are named, and which ones are ours."""

from __future__ import annotations

import itertools
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = re.compile(r"mlxdeck-(\d{8}-\d{6})-(\d+)(?:-(\d+))?\.jsonl")
"""When it was begun (UTC), by which process, and a counter where that is not unique."""


def names(folder: Path, began_ts: float, pid: int) -> Iterator[Path]:
    """Names for a new file, to be tried in turn."""
    began = datetime.fromtimestamp(began_ts, UTC).strftime("%Y%m%d-%H%M%S")
    for counter in itertools.count():
        suffix = f"-{counter}" if counter else ""
        yield folder / f"mlxdeck-{began}-{pid}{suffix}.jsonl"


def stream_files(folder: Path) -> list[Path]:
    """The telemetry files in a folder; the most recently written file is last.

    Symbolic links are skipped: their targets may belong to somebody else.
    """
    found: list[tuple[int, str, int, Path]] = []
    for path in folder.iterdir():
        matched = FILE_NAME.fullmatch(path.name)
        if not matched:
            continue
        try:
            about = path.lstat()
        except FileNotFoundError:
            # Another process removed it in the meantime.
            continue
        if stat.S_ISREG(about.st_mode):
            found.append((about.st_mtime_ns, matched[1], int(matched[3] or 0), path))
    return [path for *_, path in sorted(found)]


def run_of(path: Path) -> list[Path]:
    """The files that the same process has written, this one included, the newest first."""
    own = FILE_NAME.fullmatch(path.name)
    if not own:
        return [path]
    try:
        files = stream_files(path.parent)
    except OSError:
        # The folder was removed, or can't be read.
        return [path]
    same = [each for each in files if (m := FILE_NAME.fullmatch(each.name)) and m[2] == own[2]]
    return same[::-1]
