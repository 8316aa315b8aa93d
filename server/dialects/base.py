"""The interface of a wire format: bytes to `ChatRequest`, `Event`s to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from mlxdeck.server.chat import ChatRequest, Event
from mlxdeck.server.errors import ServerError


class Encoder(Protocol):
    """Writes one answer. It remembers which block is open, so it is good for one answer only."""

    def encode(self, event: Event) -> bytes:
        """An event as a piece of the stream; empty for one that this format doesn't show."""

    def error(self, error: ServerError) -> bytes:
        """An error after the first byte, as the last piece of the stream."""

    def collect(self, events: Iterable[Event]) -> bytes:
        """The whole answer as one JSON body."""


class Dialect(Protocol):
    """One wire format."""

    name: str
    path: str
    roots: tuple[str, ...]
    """Below these paths its errors are expected, also where nothing is served."""
    count_path: str
    """Where prompts are counted; empty if this API has no such route."""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for an answer. Raises `BadRequest`, which names the field."""

    def decode_count(self, body: bytes, headers: Mapping[str, str]) -> ChatRequest:
        """Read a request for a count."""

    def count(self, n_tokens: int) -> bytes:
        """The answer to that."""

    def encoder(self, request: ChatRequest, message_id: str) -> Encoder:
        """A writer for the answer to `request`."""

    def encode_error(self, error: ServerError, request_id: str) -> bytes:
        """An error as a body; its status is the error's own."""
