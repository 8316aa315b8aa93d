"""What reads a path: by what lies there, and by how it begins."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mlxdeck.telemetry.read import spool, standard_input
from mlxdeck.telemetry.read.byte_feed import ByteFeed
from mlxdeck.telemetry.read.byte_sources import FileSource, PipeSource
from mlxdeck.telemetry.read.decompression import method_of
from mlxdeck.telemetry.read.followed_file import FollowedFile
from mlxdeck.telemetry.read.frames import Frame
from mlxdeck.telemetry.read.places import without_suffix
from mlxdeck.telemetry.read.recognition import head_of, kind_of
from mlxdeck.telemetry.read.spooled_stream import Growing, SpooledStream
from mlxdeck.telemetry.schema.file_names import FILE_NAME
from mlxdeck.telemetry.transcripts.transcript_feed import TranscriptFeed


class Followed(Growing, Protocol):
    """What reads one stream; for one thread."""

    def read(self, max_bytes: int) -> Iterator[Frame]:
        """Unread data, up to about `max_bytes`."""


def opened_transcripts(folder: Path) -> Followed:
    """What reads a folder of transcripts as one stream."""
    return SpooledStream(TranscriptFeed(folder))


def opened(path: Path, *, newest_first: bool) -> Followed | None:
    """What reads a path that is no folder; None while it is not there, or empty.

    Raises:
        ForeignData: It is no recording.
        OSError: It can't be opened.
    """
    if standard_input.is_meant(path):
        name = standard_input.NAME
        source = PipeSource(os.dup(standard_input.fd()), named=False)
        return SpooledStream(ByteFeed(source, spool.new_folder() / name, name))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        return SpooledStream(
            ByteFeed(PipeSource.of(path), spool.copy_of(path, path.name), path.name)
        )
    try:
        head = head_of(path)
    except OSError:
        # It tries again and again, and tells why it can't.
        return FollowedFile(path, newest_first=newest_first)
    if not head and not FILE_NAME.fullmatch(path.name):
        return None
    if method_of(head):
        copy = spool.copy_of(path, without_suffix(path.name))
        return SpooledStream(ByteFeed(FileSource(path), copy, path.name))
    kind = kind_of(head if b"\n" in head else head + b"\n")
    if kind == "transcript":
        return SpooledStream(TranscriptFeed(path))
    if kind is None and b"\n" not in head and not FILE_NAME.fullmatch(path.name):
        # Its first line is being written.
        return None
    return FollowedFile(path, newest_first=newest_first)
