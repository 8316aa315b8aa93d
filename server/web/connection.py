"""A connection of Sanic's, with additions.

Bytes that can't become a head are refused at once. An answer of unknown length also reaches a
client of HTTP/1.0. An error also reaches a client that is still sending.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

from sanic.exceptions import BadRequest, SanicException
from sanic.headers import format_http1_response
from sanic.http import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from mlxdeck.server.web.incoming_bodies import TimedHttp

LINGER_S = 5.0
"""How long bytes are taken and dropped of a client that has its answer before it is through."""

_NEVER_IN_A_HEAD = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
_LETTERS = re.compile(rb"[A-Za-z]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method, or the name of a header: RFC 9110, 5.6.2."""


class Exchange(TimedHttp):
    """The requests of one connection, one after another."""

    __slots__ = ("_unread",)

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self._receive_more = self._receive

    def init_for_request(self) -> None:
        """Start again."""
        super().init_for_request()
        self._unread = False

    async def http1(self) -> None:
        """Serve until the connection ends, and see that the last answer is read."""
        self._unread = False
        await super().http1()
        if self._unread or self.request_body:
            await self._linger()

    def leave_unread(self) -> None:
        """The rest of a body is not read: the connection ends with the answer."""
        self._unread, self.keep_alive, self.request_body = True, False, None

    async def _linger(self) -> None:
        """Let the client read: closing while its bytes come in would take the answer from it."""
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            return
        self.stage = Stage.IDLE
        # A client that has left meanwhile raises the first.
        with suppress(OSError, TimeoutError):
            if transport.can_write_eof():
                transport.write_eof()
            async with asyncio.timeout(LINGER_S):
                while True:
                    self.recv_buffer.clear()
                    await self.protocol.receive_more()

    async def read(self) -> bytes | None:
        """A part of a body. Behind its end, it is heard again whether the client leaves.

        Sanic stops reading when its buffer is full, and would go on with the next request only.
        """
        part = await super().read()
        transport = self.protocol.transport
        # A client that sends further requests meanwhile waits until there is room for them.
        has_room = len(self.recv_buffer) < self.protocol.app.config.REQUEST_BUFFER_SIZE
        if not self.request_body and has_room and transport is not None:
            transport.resume_reading()
        return part

    async def _receive(self) -> None:
        await self.protocol.receive_more()
        if self.stage is Stage.REQUEST:
            self._check_start()

    def _check_start(self) -> None:
        """Refuse bytes that can't become a head any more, instead of waiting for their end.

        Raises:
            BadRequest: It is TLS, or has line breaks that no head may have.
        """
        head, end, _ = self.recv_buffer.partition(b"\r\n\r\n")
        if head and not _LETTERS.match(head):
            raise BadRequest("the request is not HTTP")
        if not end:
            # The second half of a line break may still arrive.
            head = head.removesuffix(b"\r")
        if _NEVER_IN_A_HEAD.search(head):
            raise BadRequest("the request's head has a line break or a byte that is not allowed")

    async def http1_request_header(self) -> None:
        """Receive a head.

        Raises:
            BadRequest: It is none.
        """
        while self.recv_buffer.startswith(b"\r\n"):
            # Some clients end a body with a line break that is no part of it.
            del self.recv_buffer[:2]
        self._check_start()
        await super().http1_request_header()
        if not _TOKEN.fullmatch(self.request.method):
            raise BadRequest("the request has no valid method")
        if self.request._parsed_url.path is None:
            raise BadRequest("the request's target has no path")
        if not all(map(_TOKEN.fullmatch, self.request.headers)):
            # Also one with a blank in front of its colon, which proxies read in two ways.
            raise BadRequest("the request has a header without a valid name")

    async def error_response(self, exception: Exception) -> None:
        """Answer an error of the connection, if the client still reads."""
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            self.keep_alive, self.request_body = False, None
            return
        self._unread = self._unread or self.stage is Stage.REQUEST
        await super().error_response(exception)

    def create_empty_request(self) -> None:
        """What an error is answered to, if there was no head to make a request of."""
        try:
            super().create_empty_request()
        except SanicException:
            # It is the target that is wrong.
            self.url = None
            super().create_empty_request()

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of an answer, and as much of its body as there is."""
        response, request = self.response, self.request
        whole = end_stream or bool(response.body) or self.head_only
        if request.version != "1.0" or whole:
            await super().http1_response_header(data, end_stream)
            return
        # No chunks before HTTP/1.1: the end of the connection is the end of the answer.
        self.keep_alive = False
        response.headers["connection"] = "close"
        await self._send(format_http1_response(response.status, response.processed_headers) + data)
        self.stage, self.response_func = Stage.RESPONSE, self._send_plain

    async def _send_plain(self, data: bytes, end_stream: bool) -> None:
        if data:
            await self._send(data)
        if end_stream:
            # Nothing more is to be sent, which Sanic says so too.
            self.response_func = None  # type: ignore[assignment]
            self.stage = Stage.IDLE


class Connection(HttpProtocol):
    """What `create_server` makes for each client that connects."""

    HTTP_CLASS = Exchange
    __slots__ = ("_is_ending",)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._is_ending = False

    def stop_waiting(self) -> None:
        """Send the rest without waiting for a slow reader; it is short."""
        self._is_ending = True
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client lags."""
        if not self._is_ending:
            super().pause_writing()
