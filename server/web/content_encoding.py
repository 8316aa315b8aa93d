"""Bodies that come compressed, unpacked no further than a body may be long.

gzip and deflate always; zstd and br where Python has a module for them.
"""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Protocol

from mlxdeck.server.errors import BadRequest, TooLarge, UnsupportedEncoding

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_PIECE_BYTES = 64 * 1024
MAX_MEMBERS = 64
"""Members of a gzip file, or frames of zstd."""
MAX_ENCODINGS = 2
"""One upon another, as a client and its proxy may make them."""


class Unpacker(Protocol):
    """Undoes an encoding up to the end of one member."""

    @property
    def eof(self) -> bool:
        """Whether the end of the member was reached."""

    @property
    def unused_data(self) -> bytes:
        """What came behind it."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most that much of what comes out; no more is asked for if it is more."""


class _Brotli:
    """brotli's own decompressor, which has no members."""

    unused_data = b""

    def __init__(self, module: ModuleType) -> None:
        self._inner = module.Decompressor()
        self._error = module.error

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self.eof:
            raise self._error("there is something behind the end")
        return bytes(self._inner.process(data, output_buffer_limit=max_length))


def _module(*names: str) -> ModuleType | None:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_zstd = _module("compression.zstd", "backports.zstd")
_brotli = _module("brotli")
if _brotli is not None and not hasattr(_brotli.Decompressor, "can_accept_more_data"):
    # Before 1.2 it unpacks without a limit.
    _brotli = None

_MORE: Mapping[str, Callable[[], Unpacker]] = {
    **({"zstd": _zstd.ZstdDecompressor} if _zstd else {}),
    **({"br": partial(_Brotli, _brotli)} if _brotli else {}),
}
_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    *((_zstd.ZstdError,) if _zstd else ()),
    *((_brotli.error,) if _brotli else ()),
)
ENCODINGS = ("gzip", "deflate", *_MORE)


async def decoded(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """The decompressed body. The work runs on a thread.

    Raises:
        UnsupportedEncoding: The method is unknown.
        BadRequest: The body doesn't match the header.
        TooLarge: The result is longer than `max_bytes`.
    """
    names = [name for each in content_encoding.split(",") if (name := each.strip().lower())]
    names = [name for name in names if name != "identity"]
    for name in names:
        if name not in (*ENCODINGS, "x-gzip"):
            raise UnsupportedEncoding(name, ENCODINGS)
    if len(names) > MAX_ENCODINGS:
        raise BadRequest("", f"the body is compressed more than {MAX_ENCODINGS} times")
    for name in reversed(names):
        body = await asyncio.to_thread(unpacked, body, name, max_bytes)
    return body


def unpacked(body: bytes, name: str, max_bytes: int) -> bytes:
    """Undo one encoding; any thread. Linear in what goes in and what may come out."""
    make = _maker(body, name)
    unpacker = make()
    pieces: list[bytes] = []
    left_bytes, n_members = max_bytes, 1
    for start in range(0, len(body), _PIECE_BYTES):
        packed = body[start : start + _PIECE_BYTES]
        while packed:
            if unpacker.eof and name != "br":
                # A file may have several members, and zeros behind them.
                if not (packed := packed.lstrip(b"\0")):
                    break
                n_members += 1
                if n_members > MAX_MEMBERS:
                    raise BadRequest("", f"the body has more than {MAX_MEMBERS} {name} members")
                unpacker = make()
            try:
                piece = unpacker.decompress(packed, left_bytes + 1)
            except _ERRORS:
                raise BadRequest("", f"the body is not {name}, as its header says") from None
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise TooLarge(f"the request body unpacks to more than {max_bytes:,} bytes")
            pieces.append(piece)
            packed = unpacker.unused_data
    if not unpacker.eof:
        raise BadRequest("", f"the body is cut off inside its {name} encoding")
    return b"".join(pieces)


def _maker(body: bytes, name: str) -> Callable[[], Unpacker]:
    if name in _MORE:
        return _MORE[name]
    # In the standard, deflate is zlib's format; many clients send raw deflate.
    bits = -zlib.MAX_WBITS if name == "deflate" and not _is_zlib(body) else _GZIP_OR_ZLIB
    return lambda: zlib.decompressobj(bits)


def _is_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
