"""Bodies that come compressed: gzip and deflate, unpacked no further than a body may be long."""

from __future__ import annotations

import asyncio
import zlib

from mlxdeck.server.errors import BadRequest, TooLarge, UnsupportedEncoding

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_PIECE_BYTES = 64 * 1024
MAX_MEMBERS = 64
MAX_ENCODINGS = 2
"""One upon another, as a client and its proxy may make them."""


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
        if name not in ("gzip", "x-gzip", "deflate"):
            raise UnsupportedEncoding(name)
    if len(names) > MAX_ENCODINGS:
        raise BadRequest("", f"the body is compressed more than {MAX_ENCODINGS} times")
    for name in reversed(names):
        body = await asyncio.to_thread(unpacked, body, name, max_bytes)
    return body


def unpacked(body: bytes, name: str, max_bytes: int) -> bytes:
    """Undo one encoding; any thread. Linear in what goes in and what may come out."""
    # In the standard, deflate is zlib's format; many clients send raw deflate.
    bits = -zlib.MAX_WBITS if name == "deflate" and not _is_zlib(body) else _GZIP_OR_ZLIB
    unpacker = zlib.decompressobj(bits)
    pieces: list[bytes] = []
    left_bytes, n_members = max_bytes, 1
    for start in range(0, len(body), _PIECE_BYTES):
        packed = body[start : start + _PIECE_BYTES]
        while packed:
            if unpacker.eof:
                # A gzip file may have several members, and zeros behind them.
                if not (packed := packed.lstrip(b"\0")):
                    break
                n_members += 1
                if n_members > MAX_MEMBERS:
                    raise BadRequest("", f"the body has more than {MAX_MEMBERS} gzip members")
                unpacker = zlib.decompressobj(bits)
            try:
                piece = unpacker.decompress(packed, left_bytes + 1)
            except zlib.error:
                raise BadRequest("", f"the body is not {name}, as its header says") from None
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise TooLarge(f"the request body unpacks to more than {max_bytes:,} bytes")
            pieces.append(piece)
            packed = unpacker.unused_data
    if not unpacker.eof:
        raise BadRequest("", f"the body is cut off inside its {name} encoding")
    return b"".join(pieces)


def _is_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
