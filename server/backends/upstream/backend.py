"""Another server behind the seam: what is asked, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mlxdeck.server.backends.base import (
    Announce,
    BackendInfo,
    BackendStatus,
    Route,
    ServedModel,
)
from mlxdeck.server.backends.simple import NothingLocal
from mlxdeck.server.backends.upstream.answer_stream import AnswerStream
from mlxdeck.server.backends.upstream.anthropic import AnthropicReader
from mlxdeck.server.backends.upstream.client import UpstreamClient
from mlxdeck.server.backends.upstream.client_body import body_digest
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from mlxdeck.server.backends.upstream.openai_chat import OpenAIReader
from mlxdeck.server.backends.upstream.outgoing import notes, outgoing, outgoing_count
from mlxdeck.server.backends.upstream.peer import Peer
from mlxdeck.server.backends.upstream.pings import with_silences
from mlxdeck.server.backends.upstream.reading import AnswerReader, count_of
from mlxdeck.server.cache.cache_disk import CacheDisk
from mlxdeck.server.cache.cache_keys import digest
from mlxdeck.server.chat import ChatRequest, Finished, Ping, Started, Usage
from mlxdeck.server.errors import BadRequest, NotFound, ServerError, UpstreamRefused
from mlxdeck.server.load import Load
from mlxdeck.server.request_facts import Digests, FirstTokenDrawn, Forwarded, StreamItem

COUNT_TIMEOUT_S = 30.0
START_S = 5.0
"""A server that does not answer by then keeps ours from starting no longer."""
UNKNOWN = Usage(None, None, None)


class UpstreamBackend(NothingLocal):
    """The `Backend` of another server."""

    lost: asyncio.Future[str]
    _client: UpstreamClient
    _peer: Peer

    def __init__(self, config: UpstreamConfig) -> None:
        """Nothing is asked before `start`."""
        self.config = config
        self._n_active = 0
        self._n_output_tokens = 0

    async def start(self, announce: Announce, disk: CacheDisk | None) -> None:
        """Ask what it is. A server that is not there now may be there later."""
        del disk
        self.lost = asyncio.get_running_loop().create_future()
        self._client = UpstreamClient(self.config)
        self._peer = Peer(self.config, self._client)
        announce(f"upstream {self.config.name} at {self.config.base}")
        await self._peer.look_once(START_S)

    async def close(self) -> None:
        """Close every connection."""
        self._peer.close()
        await self._client.close()

    @property
    def info(self) -> BackendInfo:
        """What is known of the server by now."""
        config, peer = self.config, self._peer
        told = [config.name, config.base, config.model, config.dialect, config.canonical]
        return BackendInfo(
            peer.model or config.name,
            " ".join(map(str, told)),
            peer.context_tokens,
            "upstream",
            peer.trouble or f"upstream {config.name} at {config.host}",
            {"upstream": peer.report()},
        )

    @property
    def status(self) -> BackendStatus:
        """Health as it was found by use, or by asking; what waits there is unknown."""
        load = Load(active=self._n_active, queued=None, output_tokens=self._n_output_tokens)
        return BackendStatus(self._peer.health, load)

    def routes(self, chat: ChatRequest) -> Sequence[Route]:
        """Itself, whatever the client calls the model."""
        return (Route(self.config.name, self, chat.model),)

    def models(self) -> Sequence[ServedModel]:
        """Those that the other server lists."""
        return self._peer.models()

    def model_name(self, chat: ChatRequest) -> str:
        """What the other server is asked for."""
        return self._peer.model_for(chat.model)

    def check(self, chat: ChatRequest) -> None:
        """The other server judges, but for prompts without a conversation, which none gets.

        Raises:
            BadRequest: It is one.
        """
        if chat.raw:
            raise BadRequest("prompt", f"the upstream {self.config.name} takes conversations only")

    def key_share(self, chat: ChatRequest) -> str:
        """All that is sent, the model that is asked for, and whose key it was."""
        owner = "" if self.config.shares_answers else chat.owner
        body = body_digest(chat.client, self.config.rules_off) if chat.client else ""
        return digest([body, self._peer.model_for(chat.model), owner])

    def notes(self, chat: ChatRequest) -> tuple[str, ...]:
        """Few of the client's own words; pictures are sent in the other API's words too."""
        if self._peer.passes_on(chat):
            return notes(chat, self.config)
        return tuple(note for note in chat.history_notes if not note.startswith("replaced"))

    async def answer(self, chat: ChatRequest, parts: Digests) -> AsyncGenerator[StreamItem]:
        """Ask the other server, and pass its answer on as it comes."""
        del parts
        self._n_active += 1
        try:
            async with aclosing(self._answered(chat)) as items:
                async for item in items:
                    yield item
        except ServerError as error:
            self._peer.failed(error)
            raise
        finally:
            self._n_active -= 1

    async def _answered(self, chat: ChatRequest) -> AsyncGenerator[StreamItem]:
        dialect = await self._peer.dialect_for(chat)
        model = self._peer.model_for(chat.model)
        yield Forwarded(dialect, model)
        sent = outgoing(chat, dialect, model, self.config)
        reader = self._reader(dialect, chat)
        stream = AnswerStream(self._client, self.config, sent, reader)
        is_started = has_first = False
        async with aclosing(with_silences(stream.items(), self.config.ping_s)) as items:
            async for item in items:
                if isinstance(item, Started):
                    self._peer.worked()
                    if reader.model not in ("", model, chat.model):
                        yield Forwarded(dialect, reader.model)
                    if is_started:
                        # The client was told before the server said anything.
                        continue
                elif not is_started:
                    # Silence: from here on, an error is a part of the stream.
                    yield Started(UNKNOWN)
                is_started = True
                if item is None:
                    yield Ping()
                    continue
                if not has_first and not isinstance(item, Started | Ping):
                    has_first = True
                    yield FirstTokenDrawn()
                if isinstance(item, Finished):
                    self._n_output_tokens += item.usage.output_tokens or 0
                yield item

    def _reader(self, dialect: str, chat: ChatRequest) -> AnswerReader:
        return OpenAIReader(chat.tools) if dialect == "openai" else AnthropicReader(chat.tools)

    async def count(self, chat: ChatRequest) -> int:
        """What the other server counts, if it does.

        Raises:
            NotFound: It has no such route.
        """
        missing = NotFound(f"the upstream {self.config.name} doesn't count tokens")
        if await self._peer.dialect_for(chat) != "anthropic":
            raise missing
        sent = outgoing_count(chat, self._peer.model_for(chat.model), self.config)
        try:
            counted = count_of(await self._client.told(sent, COUNT_TIMEOUT_S), "input_tokens")
        except UpstreamRefused as error:
            raise missing if error.status in (404, 405, 501) else error from None
        if counted is None:
            raise self._client.failed("sent a count that is none")
        return counted

    def tick(self) -> None:
        """Ask from time to time whether it is there."""
        self._peer.tick()
