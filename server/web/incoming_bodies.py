"""Heads and bodies of requests while they arrive: timed, counted, bounded over all connections.

For the event loop. A client without access, or with too much data, gets its error before a body is
kept. The rest of its body is read and dropped, so that the client gets to read the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from sanic import Request
from sanic.exceptions import SanicException
from sanic.http import Http

from mlxdeck.server.errors import Overloaded, SlowBody, TooLarge
from mlxdeck.server.web.content_encoding import decoded

FREE_BYTES = 256 * 1024
"""A body up to this length is taken however much is in flight, so that short requests get in."""
LONG_BYTES = 1024**2
"""From here on, to put a body together takes a while."""
HEAD_S = 20.0
"""For a whole head, counted from its first byte."""
GRACE_S = 30.0
LEAST_BYTES_PER_S = 16 * 1024
"""After the grace, a body must have come at least this fast; slower than any network in use."""
DROP_BYTES = 256 * 1024**2
DROP_S = 5.0
"""Limits for reading a refused body; most clients read no answer before they have sent all."""
RETRY_AFTER_S = 2


class IncomingBodies:
    """The bytes of all bodies that are being read or decoded."""

    def __init__(self, max_body_bytes: int, max_in_flight_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._max_in_flight_bytes = max_in_flight_bytes
        self.in_flight_bytes = 0
        """Held now, over all connections."""
        self.unpacking = asyncio.Lock()
        """Held by who unpacks a body: what comes of it is counted only when it is there."""

    async def read(self, stream: Any) -> bytes:
        """Read a body completely; its bytes count until `release`.

        Raises:
            TooLarge: It is longer than the limit; if its head says so, nothing is read.
            Overloaded: Other bodies leave no room for it.
            SlowBody: It arrives too slowly.
        """
        if stream.request_bytes > self.max_body_bytes:
            raise self._too_large()
        # Sanic's own limit closes the connection while the client still sends.
        stream.request_max_size = float("inf")
        chunks: list[bytes] = []
        n_bytes, began_s = 0, _now_s()
        try:
            while stream.request_body:
                allowed_s = GRACE_S + n_bytes / LEAST_BYTES_PER_S
                async with asyncio.timeout_at(began_s + allowed_s):
                    chunk = await stream.read()
                if not chunk:
                    continue
                n_bytes += len(chunk)
                self.in_flight_bytes += len(chunk)
                if n_bytes > self.max_body_bytes:
                    raise self._too_large()
                if n_bytes > FREE_BYTES and self.in_flight_bytes > self._max_in_flight_bytes:
                    raise Overloaded("too many request bodies are being read", RETRY_AFTER_S)
                chunks.append(chunk)
            if n_bytes <= LONG_BYTES:
                return b"".join(chunks)
            # Copied without the interpreter's lock.
            return await asyncio.to_thread(b"".join, chunks)
        except TimeoutError:
            self.in_flight_bytes -= n_bytes
            raise SlowBody("the request body came too slowly") from None
        except BaseException:
            self.in_flight_bytes -= n_bytes
            raise

    def grow(self, n_bytes: int, n_more: int) -> None:
        """A body of that length has grown by decompression.

        Raises:
            Overloaded: There is no room for that; nothing is counted then.
        """
        together = self.in_flight_bytes + n_more
        if n_bytes + n_more > FREE_BYTES and together > self._max_in_flight_bytes:
            raise Overloaded("too many request bodies are being read", RETRY_AFTER_S)
        self.in_flight_bytes = together

    def release(self, n_bytes: int) -> None:
        """A body of that length is no longer held."""
        self.in_flight_bytes -= n_bytes

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the request body is larger than {self.max_body_bytes:,} bytes")


async def drop_body(stream: Any) -> None:
    """Read what still comes of a body that is refused, within bounds, and keep nothing of it.

    The connection ends with the answer unless all of it has come.
    """
    if not getattr(stream, "request_body", None):
        return
    if stream.expecting_continue:
        # The client waits for permission, and is refused.
        stream.expecting_continue = False
        stream.keep_alive, stream.request_body = False, None
        return
    if stream.request_body is True and stream.request_bytes_left > DROP_BYTES:
        # So much is never read, so nothing is gained by waiting for some of it.
        stream.leave_unread()
        return
    stream.request_max_size = float("inf")
    n_bytes = 0
    # A body that is malformed, or doesn't end in time: the connection ends instead.
    with suppress(TimeoutError, SanicException):
        async with asyncio.timeout(DROP_S):
            while stream.request_body and n_bytes < DROP_BYTES:
                n_bytes += len(await stream.read() or b"")
    if stream.request_body:
        stream.keep_alive, stream.request_body = False, None


class BoundedRequest(Request):
    """A request whose body is read within the bounds of the server's `IncomingBodies`."""

    async def receive_body(self) -> None:
        """Called by Sanic once the head is judged and the route is known."""
        if not self.body and self.stream is not None:
            self.body = await self.app.ctx.bodies.read(self.stream)

    async def unpack(self) -> None:
        """Undo the encodings of the body, one request at a time.

        Raises:
            ServerError: See `decoded`; or there is no room for the result.
        """
        how = ",".join(self.headers.getall("content-encoding", ()))
        if not how:
            return
        bodies: IncomingBodies = self.app.ctx.bodies
        async with bodies.unpacking:
            body = await decoded(self.body, how, bodies.max_body_bytes)
            bodies.grow(len(self.body), len(body) - len(self.body))
            self.body = body

    def drop(self) -> None:
        """Release the body: the server no longer needs its bytes."""
        self.app.ctx.bodies.release(len(self.body))
        self.body = b""


class TimedHttp(Http):
    """HTTP with a time limit for heads, even if a client sends a byte now and then.

    Sanic's own limit starts again with every byte.
    """

    async def http1_request_header(self) -> None:
        """Receive and parse a head."""
        try:
            async with asyncio.timeout(HEAD_S):
                await super().http1_request_header()
        except TimeoutError:
            raise SlowBody("the head of the request came too slowly") from None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
