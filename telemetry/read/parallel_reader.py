"""Processes that read a long file in parts, so that more than one core does the work.

Each writes frames to its standard output: four bytes of length, then MessagePack. Without one, or
when it ends too soon, its part is read in this process, only more slowly.
"""

from __future__ import annotations

import gc
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlxdeck.telemetry.read.frames import Frame, frame
from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES, MAX_LINE_BYTES, Region

HELPED_BYTES = 32 << 20
"""A shorter part is read sooner than a process starts."""
MAX_HELPERS = 4
NICE = 10
"""Helpers give way to the dashboard's process, which shows the results and answers keys."""
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
"""For glibc: keep freed memory for the next chunk.

Requesting memory from the system each time takes a fifth of a helper's time.
"""
_LENGTH = struct.Struct("<I")


def _to_wire(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.tobytes()]
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _from_wire(kind: Any, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    return np.frombuffer(value[1], value[0])


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)
_decoder = msgspec.msgpack.Decoder(Frame, dec_hook=_from_wire)


def frames(path: Path, fd: int, start: int, end: int) -> Iterator[Frame]:
    """Read a part of a file that begins and ends with whole lines."""
    region = Region(start, end)
    while chunk := os.pread(fd, region.room(CHUNK_BYTES), region.at):
        yield frame(path, region, chunk)


class FilePart:
    """A part of a file that is there already; a long one is read by a process. For one thread."""

    def __init__(self, path: Path, fd: int, start: int, end: int) -> None:
        self._path = path
        self._fd = fd
        self._end = end
        self._at = start
        self._process = self._started() if end - start >= HELPED_BYTES else None
        self._here: Iterator[Frame] | None = None

    @property
    def unread_bytes(self) -> int:
        """How much of it is left."""
        return self._end - self._at

    def next(self) -> Frame | None:
        """What comes next, waited for; None at its end.

        Raises:
            OSError: The file can't be read any more.
        """
        found = self._helped() if self._process else None
        if found is None and self.unread_bytes > 0:
            # No process, or one that was ended from outside.
            self._here = self._here or frames(self._path, self._fd, self._at, self._end)
            found = next(self._here, None)
        self._at = found.end if found else self._end
        return found

    def _started(self) -> subprocess.Popen[bytes] | None:
        numbers = map(str, (self._fd, self._at, self._end))
        try:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mlxdeck.telemetry.read.parallel_reader",
                    str(self._path),
                    *numbers,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._fd,),
                env=os.environ | _KEEP_MEMORY,
            )
        except OSError:
            # No more processes, or no memory for one.
            return None

    def _helped(self) -> Frame | None:
        assert self._process and self._process.stdout
        head = self._process.stdout.read(_LENGTH.size)
        body = self._process.stdout.read(_LENGTH.unpack(head)[0]) if len(head) == 4 else b""
        try:
            return _decoder.decode(body)
        except msgspec.DecodeError:
            self.close()
            return None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process and self._process.stdout:
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()
        self._process = None


def parts(path: Path, fd: int, end: int) -> list[FilePart]:
    """The beginning of a file, up to where a line ends, in parts for several processes."""
    # The store's work is a fifth of the total, so no core is reserved for the store.
    n_parts = min(MAX_HELPERS, os.cpu_count() or 1, max(1, end // HELPED_BYTES))
    cuts = {line_after(fd, end * n // n_parts) for n in range(1, n_parts)} - {0, end}
    starts = [0, *sorted(cuts)]
    return [FilePart(path, fd, a, b) for a, b in zip(starts, [*starts[1:], end], strict=True)]


def line_after(fd: int, at: int) -> int:
    """Where the first line after a place begins; 0 if none is in reach."""
    found = os.pread(fd, MAX_LINE_BYTES, at).find(b"\n")
    return at + found + 1 if found >= 0 else 0


def main(path: Path, fd: int, start: int, end: int) -> None:
    """The process itself."""
    os.nice(NICE)
    # Nothing here holds itself, and there are millions of lines to look through.
    gc.disable()
    out = sys.stdout.buffer
    try:
        for found in frames(path, fd, start, end):
            body = _encoder.encode(found)
            out.write(_LENGTH.pack(len(body)) + body)
        out.flush()
    except BrokenPipeError:
        # The parent has stopped reading, or has ended.
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
