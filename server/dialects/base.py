"""The interface of a wire format: bytes to `ChatRequest`, `Event`s to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer to which later requests may refer; all but the first two fields is JSON."""

    id: str
    previous: StoredAnswer | None = field(repr=False, compare=False)
    """The answer that it continued; None if it began a conversation."""
    input: bytes
    """What its request added to the conversation: a list."""
    output: bytes
    """What it added itself: a list."""
    body: bytes
    """The rest of the answer, for who asks for it again; its output is left out."""

    @property
    def n_bytes(self) -> int:
        """How much memory it takes, without what it continued."""
        return len(self.input) + len(self.output) + len(self.body)

    def conversation(self) -> list[StoredAnswer]:
        """It after all that it continued."""
        found: list[StoredAnswer] = []
        answer: StoredAnswer | None = self
        while answer is not None:
            found.append(answer)
            answer = answer.previous
        return found[::-1]


@runtime_checkable
class StoringEncoder(Encoder, Protocol):
    """A writer of answers that later requests may refer to."""

    def stored(self) -> StoredAnswer | None:
        """The answer as far as it goes; None if there is none yet, or its client wants none."""


@runtime_checkable
class RecallingDialect(Dialect, Protocol):
    """A wire format whose requests may refer to stored answers."""

    def recall(self, request: ChatRequest, found: Mapping[str, StoredAnswer]) -> ChatRequest:
        """The whole of a request that `decode` gave `refers_to`; `found` is what of it is stored.

        Raises `UnknownPrevious` or `UnknownStored` if more is needed, and whatever `decode` does.
        """

    def stored_body(self, answer: StoredAnswer, query: Mapping[str, str]) -> bytes:
        """A stored answer, for who asks for it again. Raises `BadRequest`."""

    def input_body(self, answer: StoredAnswer, query: Mapping[str, str]) -> bytes:
        """The conversation that it answered, as far as `query` asks for it. Raises `BadRequest`."""

    def deleted_body(self, answer_id: str) -> bytes:
        """That an answer is not stored any more."""
