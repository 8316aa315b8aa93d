"""The read side: follows streams as they grow, are rotated, truncated or replaced.

Polled, not notified: ten looks a second cost nothing and work on every file system. A line that
can't be read is counted and kept for the user to see; it never ends the tailing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mlxdeck.telemetry.analyze.sentences import counted
from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.read import standard_input
from mlxdeck.telemetry.read.fast_decode import Bad
from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES
from mlxdeck.telemetry.read.openings import Followed, opened, opened_transcripts
from mlxdeck.telemetry.read.places import is_stream_name
from mlxdeck.telemetry.read.recognition import ForeignData
from mlxdeck.telemetry.schema.file_names import FILE_NAME
from mlxdeck.telemetry.transcripts.transcript_files import projects_in

MAX_KEPT_BAD_LINES = 500
MAX_NAMED = 3
RECENT_S = 86_400.0
"""So far back streams are of interest to who didn't ask for them."""


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    path: Path
    offset: int
    reason: str


class Tail:
    """Follows files, and the streams of folders. For one thread."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        whole_folders: bool = False,
        newest_first: bool = False,
        older_bytes: int = 0,
    ) -> None:
        """`whole_folders`: all streams of a folder, not only the newest and those to come.

        Else `older_bytes` of those are read too that were written in the day before the newest.
        """
        self._paths = list(paths)
        self._whole_folders = whole_folders
        self._newest_first = newest_first
        self._older_bytes = older_bytes
        self._files: dict[Path, Followed] = {}
        self._passed: dict[Path, float] = {}
        """Streams of folders that are not followed, and when each was written last."""
        self._looked: set[Path] = set()
        self._foreign: dict[Path, str] = {}
        """What lies in places that hold no stream."""
        self._refused = ""
        self.n_lines = self.n_bad = 0
        """Lines that could be read, and that could not."""
        self.bad: deque[BadLine] = deque(maxlen=MAX_KEPT_BAD_LINES)

    @property
    def _named(self) -> list[Path]:
        """The places that are no folders."""
        return [path for path in self._paths if path not in self._looked]

    @property
    def following(self) -> list[Path]:
        """Plain files with the lines of what is read; empty while there is none yet."""
        return [file.path for file in self._files.values()]

    @property
    def refused(self) -> str:
        """Why a stream can't be read; empty if all can."""
        named = (self._foreign[path] for path in self._named if path in self._foreign)
        troubles = (file.trouble for file in self._files.values() if file.trouble)
        return next(named, "") or next(troubles, self._refused)

    @property
    def notes(self) -> list[str]:
        """What else a person should know of what was read, and what of folders was skipped."""
        found = [file.note for file in self._files.values() if file.note]
        skipped = (why for path, why in self._foreign.items() if path not in self._named)
        return [*found, *skipped]

    @property
    def pending(self) -> bool:
        """Whether it is known that more will come, as from a pipe."""
        return any(file.pending for file in self._files.values())

    @property
    def left(self) -> list[str]:
        """The names of pipes that nobody writes to any more, if all is read from such."""
        files = self._files.values()
        is_over = bool(files) and all(file.writer_left for file in files)
        return [file.path.name for file in files] if is_over else []

    @property
    def unread_bytes(self) -> int:
        """Number of unread bytes in all files."""
        return sum(file.unread_bytes for file in self._files.values())

    def poll(
        self, max_bytes: int = 32 * CHUNK_BYTES, *, looks: bool = True
    ) -> Iterator[RecordBatch]:
        """Data since the last call, up to about `max_bytes` a file.

        `looks`: also of files that are new, for which folders are listed.
        """
        if looks:
            self._look()
        for file in self._files.values():
            for found in file.read(max_bytes):
                for bad in found.bad:
                    self._note(file.path, bad)
                for batch in found.batches:
                    self.n_lines += batch.n_lines
                    yield batch

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()

    def _look(self) -> None:
        for path in self._paths:
            if path in self._files:
                continue
            if os.path.isdir(path):
                self._look_in(path)
            else:
                self._follow(path)

    def _look_in(self, folder: Path) -> None:
        """Follow a folder's newest stream, or all, and every one that appears later."""
        if self._whole_folders and folder not in self._looked and (projects := projects_in(folder)):
            self._files[folder] = opened_transcripts(projects)
            return
        try:
            found = {path for path in folder.iterdir() if self._is_wanted(path)}
        except OSError:
            # Removed, or not ours to read; either may change.
            return
        fresh = found - self._files.keys()
        if folder not in self._looked and fresh:
            self._looked.add(folder)
            if self._whole_folders:
                self._note_others(folder, found)
            else:
                followed = _recent(fresh, self._older_bytes)
                self._passed |= {path: _last_written(path)[0] for path in fresh - followed}
        for path in sorted(fresh):
            # Another server may still write to an older one.
            if path not in self._passed or _last_written(path)[0] > self._passed[path]:
                self._follow(path)

    def _note_others(self, folder: Path, found: Collection[Path]) -> None:
        others = [each.name for each in folder.iterdir() if each not in found and each.is_file()]
        if others := sorted(name for name in others if not name.startswith(".")):
            more = ", ..." if len(others) > MAX_NAMED else ""
            named = ", ".join(others[:MAX_NAMED])
            read, skipped = counted(len(found), "recording"), counted(len(others), "other file")
            self._foreign[folder] = f"{folder}: {read}, {skipped} skipped: {named}{more}"

    def _is_wanted(self, path: Path) -> bool:
        if not self._whole_folders:
            return FILE_NAME.fullmatch(path.name) is not None
        return is_stream_name(path.name) and path.is_file()

    def _follow(self, path: Path) -> None:
        if path in self._foreign:
            return
        known = {os.path.realpath(each) for each in self._files}
        if os.path.realpath(path) in known and not standard_input.is_meant(path):
            return
        try:
            found = opened(path, newest_first=self._newest_first)
        except ForeignData as error:
            self._foreign[path] = f"{path} {error}"
            return
        except OSError as error:
            self._foreign[path] = f"{path}: {error.strerror}"
            return
        if found:
            self._files[path] = found

    def _note(self, path: Path, bad: Bad) -> None:
        if bad.newer:
            self._refused = f"{path.name}: {bad.reason}"
        else:
            self.n_bad += 1
            self.bad.append(BadLine(path, bad.offset, bad.reason))


def _recent(streams: Collection[Path], older_bytes: int) -> set[Path]:
    """The stream that was written last, and those of the day before it, up to so many bytes."""
    newest, *older = sorted(streams, key=_last_written, reverse=True)
    found, since_s = {newest}, _last_written(newest)[0] - RECENT_S
    for path in older:
        try:
            about = path.stat()
        except OSError:
            continue
        older_bytes -= about.st_size
        if older_bytes < 0 or about.st_mtime < since_s:
            break
        found.add(path)
    return found


def _last_written(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
