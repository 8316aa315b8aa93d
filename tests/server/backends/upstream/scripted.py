"""Another server that says what a script tells it, in pieces, slowly, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.server.backends.upstream.backend import UpstreamBackend
from mlxdeck.server.backends.upstream.config import UpstreamConfig
from tests.server.http import Running, running

HANG = "hang"
"""Nothing more is sent, and the connection stays open."""
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
Piece = bytes | str | float
"""Bytes, `HANG`, or seconds to wait."""
KEY = "sk-test-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Scripted:
    """A running server."""

    url: str
    script: Callable[[Asked], Sequence[Piece]]
    asked: list[Asked] = field(default_factory=list)
    n_left: int = 0
    """Clients that closed their connection before the answer was over."""

    @property
    def answered(self) -> list[Asked]:
        """The requests for answers."""
        return [each for each in self.asked if each.path.startswith(("/v1/messages", "/v1/chat"))]


def response(
    body: bytes | str | dict[str, Any], status: str = "200 OK", kind: str = "", **headers: str
) -> bytes:
    """A whole response; JSON by default, closed at its end."""
    raw = body.encode() if isinstance(body, str) else body
    raw = json.dumps(raw).encode() if isinstance(raw, dict) else raw
    head = [f"HTTP/1.1 {status}", f"content-type: {kind or 'application/json'}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, f"content-length: {len(raw)}", "", ""]).encode() + raw


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
"""Of a stream that ends with its connection."""


def event(data: Any) -> bytes:
    """One event."""
    return b"data: %b\n\n" % json.dumps(data).encode()


def message(*blocks: Sequence[dict[str, Any]], reason: str = "end_turn", **usage: Any) -> bytes:
    """A stream of the Messages API: each block is its start and its deltas."""
    counts = {"input_tokens": 10, "output_tokens": 1, **usage}
    head = {"id": "msg_up", "type": "message", "role": "assistant", "model": "up", "content": []}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**head, "usage": counts}}]
    for index, (start, *deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}})
    return HEAD + b"".join(map(event, [*events, {"type": "message_stop"}]))


def text(said: str) -> tuple[dict[str, Any], ...]:
    """A block of text."""
    return {"type": "text", "text": ""}, {"type": "text_delta", "text": said}


def chunks(*deltas: dict[str, Any], reason: str | None = "stop", **beside: Any) -> bytes:
    """A stream of chat completions."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    told = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    told.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **beside})
    return HEAD + b"".join(map(event, told)) + b"data: [DONE]\n\n"


@asynccontextmanager
async def scripted(
    script: Callable[[Asked], Sequence[Piece]], models: Sequence[str] = ("up",)
) -> AsyncIterator[Scripted]:
    """Serve answers by a script until the block ends; models are listed anyway."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError), left():
            asked = await _read(reader)
            server.asked.append(asked)
            pieces: Sequence[Piece] = [response({"data": [{"id": name} for name in models]})]
            if asked.method == "POST":
                pieces = server.script(asked)
            for piece in pieces:
                if isinstance(piece, str):
                    # Until the other side leaves.
                    await reader.read()
                    server.n_left += 1
                elif isinstance(piece, float):
                    await asyncio.sleep(piece)
                else:
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    @contextmanager
    def left() -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            server.n_left += 1

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = Scripted(f"http://127.0.0.1:{port}", script)
    try:
        yield server
    finally:
        listener.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(raw) if raw else None)


@asynccontextmanager
async def in_front_of(url: str, *, api_key: str = "", **config: Any) -> AsyncIterator[Running]:
    """A server of ours before another one."""
    told = {"name": "up", "dialect": "anthropic", "key_env": "UP_KEY", "url": url, **config}
    told = {"environ": {"UP_KEY": KEY}, **told}
    backend = UpstreamBackend(UpstreamConfig(**told))
    async with running(backend=backend, api_key=api_key) as server:
        yield server
