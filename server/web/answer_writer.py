"""Writes one answer in the words of its API. What is long is written beside the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from mlxdeck.server.chat import Event, Finished, Started, TextDelta, ThinkingDelta, ToolCallDelta
from mlxdeck.server.checkpoints import Lanes
from mlxdeck.server.dialects.base import Encoder
from mlxdeck.server.errors import ServerError
from mlxdeck.server.joined_events import JoinedEvents

LONG_CHARS = 16 * 1024
"""From here on, writing JSON of a text may take a millisecond."""


class AnswerWriter:
    """Calls an encoder, of which only one call runs at a time. For the event loop."""

    def __init__(self, encoder: Encoder, lanes: Lanes, *, echoes_long: bool = False) -> None:
        """`echoes_long` if the answer holds, or stores, a request that is not short."""
        self._encoder, self._lanes, self._echoes_long = encoder, lanes, echoes_long
        self._kind: type[Event] | None = None
        self._n_bytes = 0

    async def piece(self, event: Event) -> bytes:
        """An event as a piece of the stream, perhaps an empty one."""
        # Where a text ends, some APIs say all of it again.
        ends_long = self._n_bytes > LONG_CHARS and type(event) is not self._kind
        echoes = self._echoes_long and isinstance(event, Started | Finished)
        self._kind = type(event)
        if echoes or ends_long or _n_chars(event) > LONG_CHARS:
            data = await self._lanes.medium.run(partial(self._encoder.encode, event))
        else:
            data = self._encoder.encode(event)
        self._n_bytes += len(data)
        return data

    def error(self, error: ServerError) -> bytes:
        """An error after the first byte, as the last piece of the stream."""
        return self._encoder.error(error)

    async def whole(self, first: Event, events: AsyncGenerator[Event], *, is_stream: bool) -> bytes:
        """All of an answer at once: one body, or a stream whose events are all there."""
        joined = JoinedEvents()
        async for event in events:
            joined.add(event)
        said = [first, *joined.events]

        def made() -> bytes:
            if is_stream:
                return b"".join(map(self._encoder.encode, said))
            return self._encoder.collect(said)

        is_long = self._echoes_long or joined.n_chars > LONG_CHARS
        return await self._lanes.medium.run(made) if is_long else made()


def _n_chars(event: Event) -> int:
    match event:
        case TextDelta(text) | ThinkingDelta(text) | ToolCallDelta(text):
            return len(text)
        case _:
            return 0
