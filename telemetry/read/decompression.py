"""gzip and zstd, undone in bounded steps. Touches no file."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

zstd: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

STEP_BYTES = 1 << 20
"""At most so much comes out at once."""
MAX_RATIO = 1_000
"""Telemetry is never compressed to less than a thousandth; what is was made to fill disks."""
UNJUDGED_BYTES = 256 << 20
"""So much may come out before its ratio counts."""
_GZIP = zlib.MAX_WBITS | 16
_METHODS: Mapping[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(_GZIP)),
    b"\x28\xb5\x2f\xfd": ("zstd", zstd.ZstdDecompressor),
}
"""How data of each begins."""
MARK_BYTES = max(map(len, _METHODS))
SUFFIXES = (".gz", ".zst")


class DamagedData(ValueError):
    """No more comes out of the data; the text says why."""


class Decompression:
    """Members of a file, or frames, one after the other."""

    def __init__(self, mark: bytes) -> None:
        """`mark` is how the data begins, as `method_of` found it."""
        self._mark = mark
        self.method, self._make = _METHODS[mark]
        self._inner = self._make()
        self._n_in = self._n_out = 0
        self._behind = b""
        """The beginning of what may be another member."""

    @property
    def torn(self) -> bool:
        """Whether the data so far ends within a member."""
        return not self._inner.eof

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """What more data gives.

        Raises:
            DamagedData: It is not what its beginning says, or grows out of all proportion.
        """
        self._n_in += len(raw)
        full = False
        while raw or full:
            if self._inner.eof:
                raw, full = self._next_member(raw), False
                continue
            try:
                piece = self._inner.decompress(raw, STEP_BYTES)
            except (zlib.error, zstd.ZstdError) as error:
                raise DamagedData(f"its {self.method} data is damaged") from error
            # zlib hands back what it has not used, zstd keeps it for itself.
            rest = getattr(self._inner, "unconsumed_tail", b"")
            raw = self._inner.unused_data if self._inner.eof else rest
            full = len(piece) == STEP_BYTES
            self._n_out += len(piece)
            if self._n_out > max(UNJUDGED_BYTES, MAX_RATIO * self._n_in):
                raise DamagedData(
                    f"its {self.method} data unpacks to more than {MAX_RATIO:,} times"
                )
            if piece:
                yield piece

    def _next_member(self, raw: bytes) -> bytes:
        # Zeros fill up blocks of tapes.
        raw = (self._behind + raw).lstrip(b"\0")
        self._behind = b""
        if len(raw) < len(self._mark) and self._mark.startswith(raw):
            self._behind = raw
            return b""
        if not raw.startswith(self._mark):
            raise DamagedData(f"what follows its {self.method} data is something else")
        self._inner = self._make()
        return raw


def method_of(head: bytes) -> bytes:
    """The mark of the method that data is compressed with; empty if with none."""
    return next((mark for mark in _METHODS if head.startswith(mark)), b"")
