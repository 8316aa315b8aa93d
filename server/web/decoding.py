"""Bodies into requests: short ones at once, all others on a thread that keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.checkpoints import Lanes
from mlxdeck.server.dialects.refused_bodies import RefusedBody, refused_body
from mlxdeck.server.web.known_bodies import Decode, KnownBodies, read

LONG_BYTES = 512 * 1024
LONG_CONTAINERS = 2_000
"""Objects and lists, braces in texts among them; each takes some microseconds to read."""
SHORT_BYTES = 32 * 1024
SHORT_CONTAINERS = 200
"""Up to here, reading a body and making its digests takes less than a millisecond."""


class BodyReader:
    """Reads bodies. For the event loop."""

    def __init__(self, lanes: Lanes) -> None:
        self.known = KnownBodies()
        self._lanes = lanes

    async def decode(self, how: Decode, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a body as its dialect does.

        Raises:
            BadRequest: As the dialect does.
        """
        is_long = len(body) > LONG_BYTES
        n_containers = 0 if is_long else body.count(b"{") + body.count(b"[")
        if is_long or n_containers > LONG_CONTAINERS:
            chat = await self._lanes.long.run(partial(how, body, headers))
            return replace(chat, is_long=True, is_short=False)
        if (chat_ := self.known.get(how, body, headers)) is not None:
            return chat_
        found = partial(read, how, body, headers)
        is_short = len(body) <= SHORT_BYTES and n_containers <= SHORT_CONTAINERS
        told = found() if is_short else await self._lanes.medium.run(found)
        told = replace(told, chat=replace(told.chat, is_short=is_short))
        self.known.put(how, body, told)
        return told.chat

    async def refused(self, body: bytes, headers: Mapping[str, str]) -> RefusedBody:
        """What is known of a body that can't be read."""
        found = partial(refused_body, body, headers)
        return found() if len(body) <= SHORT_BYTES else await self._lanes.medium.run(found)
