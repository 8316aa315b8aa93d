"""The bytes of an answer into its events, within limits of memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import Any

import httpx2

from mlxdeck.server.backends.upstream.client import Sent, UpstreamClient
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.backends.upstream.failures import error_of
from mlxdeck.server.backends.upstream.reading import AnswerReader, OutOfOrder, decoded
from mlxdeck.server.backends.upstream.sse_reader import SseReader
from mlxdeck.server.chat import Ping, Started
from mlxdeck.server.errors import TIMEOUT, ServerError
from mlxdeck.server.request_facts import StreamItem

LAST_S = 5.0
"""For what may follow the last piece of an answer, as its usage."""
DRAIN_S = 0.05
_DONE = b"[DONE]"
_EVENTS, _JSON = "text/event-stream", "application/json"


class AnswerStream:
    """One answer of another server."""

    def __init__(
        self, client: UpstreamClient, config: UpstreamConfig, sent: Sent, reader: AnswerReader
    ) -> None:
        self._client = client
        self._config = config
        self._sent = sent
        self._reader = reader
        self._is_over = False
        """Whether the server said that nothing follows."""

    async def items(self) -> AsyncGenerator[StreamItem]:
        """Send the request, and read the answer as it comes; leaving closes the connection.

        Raises:
            ServerError: It was refused, or is no whole answer.
        """
        async with self._client.post(self._sent) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in (_EVENTS, _JSON):
                shown = kind[:80] or "no content type"
                raise self._failed(f"sent {shown} instead of an answer; is its URL right?")
            pieces = self._streamed(response) if kind == _EVENTS else self._whole(response)
            try:
                async with aclosing(pieces) as items:
                    async for item in items:
                        yield item
            except OutOfOrder as error:
                raise self._failed(f"sent an answer that can't be read: {error}") from None

    async def _streamed(self, response: httpx2.Response) -> AsyncGenerator[StreamItem]:
        reader, events = self._reader, SseReader(self._config.max_event_bytes)
        loop = asyncio.get_running_loop()
        progress_s, n_bytes, has_begun = loop.time(), 0, False
        async with aclosing(_chunks(response)) as chunks:
            while not (reader.is_done or self._is_over):
                chunk = await self._next(chunks, progress_s)
                n_bytes += len(chunk)
                if n_bytes > self._config.max_answer_bytes:
                    raise self._failed("sent an answer without an end")
                was_ending = reader.is_ending
                for item in self._found(events, chunk):
                    if not isinstance(item, Ping):
                        progress_s = loop.time()
                        has_begun = has_begun or not isinstance(item, Started)
                    elif not has_begun:
                        # It says nothing yet, so another backend may still take over.
                        continue
                    yield item
                if reader.is_ending and not was_ending:
                    progress_s = loop.time()
                if not chunk:
                    break
            if not reader.is_done:
                self._check_end(events)
                for item in reader.close():
                    yield item
            await _drained(chunks)

    async def _next(self, chunks: AsyncGenerator[bytes], progress_s: float) -> bytes:
        """More of the stream; empty at its end, or if nothing of weight can follow any more."""
        is_ending = self._reader.is_ending
        wait_s = LAST_S if is_ending else self._config.progress_timeout_s
        try:
            async with asyncio.timeout_at(progress_s + wait_s):
                return await anext(chunks, b"")
        except TimeoutError:
            if is_ending:
                return b""
            raise self._failed("makes no progress", TIMEOUT) from None
        except httpx2.HTTPError:
            if is_ending:
                return b""
            raise

    def _check_end(self, events: SseReader) -> None:
        """Whether a stream may end here that hasn't said so."""
        if self._is_over:
            return
        if not events.is_between:
            raise self._failed("closed the connection in the middle of an event")
        if not self._reader.is_ending:
            raise self._failed("closed the connection before the end of its answer")

    def _found(self, events: SseReader, chunk: bytes) -> Iterator[StreamItem]:
        """What a piece of the stream says."""
        for data in events.feed(chunk):
            told = data.strip()
            if told == _DONE:
                self._is_over = True
                return
            if not told:
                # Some gateways keep the connection alive so.
                continue
            yield from self._reader.read(self._object(data, "an event"))
            if self._reader.is_done:
                return
        if events.is_too_long:
            raise self._failed("sent an event that is too long")

    async def _whole(self, response: httpx2.Response) -> AsyncGenerator[StreamItem]:
        """One body, from a server that doesn't stream."""
        body = await self._client.body(response, self._config.max_event_bytes)
        for item in self._reader.whole(self._object(body, "a body")):
            yield item

    def _object(self, data: bytes, what: str) -> dict[str, Any]:
        try:
            value = decoded(data)
        except ValueError:
            raise self._failed(f"sent {what} that is no JSON") from None
        if not isinstance(value, dict):
            raise self._failed(f"sent {what} that is no object")
        if value.get("error") or value.get("type") == "error":
            config = self._config
            raise error_of(value, 0, config.name, config.key, self._sent.dialect)
        return value

    def _failed(self, what: str, status: int = 502) -> ServerError:
        return self._client.failed(what, status)


async def _drained(chunks: AsyncGenerator[bytes]) -> None:
    """Read an end that is there already, so that the connection can be used again."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


async def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes]:
    chunks: AsyncIterator[bytes] = response.aiter_bytes()
    async for chunk in chunks:
        if chunk:
            yield chunk
