"""Answers to which later requests may refer, in RAM: bounded, the least recently used go first.

Any thread may look one up or keep one. A conversation's answers form a chain. What an answer
continued is kept as long as the answer itself, so no conversation loses its beginning; it can only
go as a whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import cast

from mlxdeck.server.chat import ChatRequest, Event, Finished
from mlxdeck.server.checkpoints import Lanes, Workers
from mlxdeck.server.dialects.base import (
    Dialect,
    Encoder,
    RecallingDialect,
    StoredAnswer,
    StoringEncoder,
)
from mlxdeck.server.errors import ServerError, UnknownStored
from mlxdeck.server.web.decoding import LONG_BYTES, SHORT_BYTES


@dataclass(slots=True)
class _Held:
    answer: StoredAnswer
    n_users: int = 0
    """Its own id, if it can be asked for by that, and the held answers that continue it."""


class StoredAnswers:
    """Answers by their ids, each for its owner alone: who sent the same API key."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._listed: OrderedDict[str, tuple[StoredAnswer, str]] = OrderedDict()
        self._held: dict[str, _Held] = {}
        # What is long is written, and then kept, beside the event loop.
        self._lock = threading.RLock()
        self.n_bytes = 0
        """Of all that is held."""

    def __len__(self) -> int:
        return len(self._listed)

    def put(self, answer: StoredAnswer, owner: str) -> None:
        """Keep an answer, if there is room for it and all that it continues."""
        with self._lock:
            self._listed[answer.id] = answer, owner
            self._hold(answer)
            while len(self._listed) > self._max_entries or self.n_bytes > self._max_bytes:
                self._drop(next(iter(self._listed)))

    def get(self, answer_id: str, owner: str) -> StoredAnswer:
        """One answer.

        Raises:
            UnknownStored: It is not kept, or not any more.
        """
        if (answer := self._find(answer_id, owner)) is None:
            raise UnknownStored(f"Response with id {answer_id!r:.80} not found.")
        return answer

    def _find(self, answer_id: str, owner: str) -> StoredAnswer | None:
        with self._lock:
            answer, owned_by = self._listed.get(answer_id, (None, ""))
            if answer is None or owned_by != owner:
                return None
            self._listed.move_to_end(answer_id)
            return answer

    def delete(self, answer: StoredAnswer) -> None:
        """Forget an answer; those that continue it keep what they need of it."""
        with self._lock:
            self._drop(answer.id)

    def _hold(self, answer: StoredAnswer | None) -> None:
        while answer is not None:
            is_new = answer.id not in self._held
            held = self._held.setdefault(answer.id, _Held(answer))
            held.n_users += 1
            if not is_new:
                return
            self.n_bytes += answer.n_bytes
            answer = answer.previous

    def _drop(self, answer_id: str) -> None:
        answer: StoredAnswer | None = self._listed.pop(answer_id)[0]
        while answer is not None:
            held = self._held[answer.id]
            held.n_users -= 1
            if held.n_users:
                return
            del self._held[answer.id]
            self.n_bytes -= answer.n_bytes
            answer = answer.previous

    async def recall(
        self, dialect: Dialect, chat: ChatRequest, owner: str, lanes: Lanes
    ) -> ChatRequest:
        """A request with all that it refers to.

        Raises:
            BadRequest: Something of it is not kept, or the whole is malformed.
        """
        if not chat.refers_to or not isinstance(dialect, RecallingDialect):
            return chat
        if chat.is_long:
            read = await lanes.long.run(lambda: dialect.recall(chat, self._found(chat, owner)))
            return replace(read, is_long=True, is_short=False)
        found = self._found(chat, owner)
        whole, n_bytes = partial(dialect.recall, chat, found), _n_bytes(found.values())
        if n_bytes <= SHORT_BYTES and chat.is_short:
            return whole()
        lane, is_long = _lane(n_bytes, lanes), n_bytes > LONG_BYTES
        return replace(await lane.run(whole), is_long=is_long, is_short=False)

    def _found(self, chat: ChatRequest, owner: str) -> Mapping[str, StoredAnswer]:
        """Those that a request refers to, as far as they are kept."""
        looked_up = {each: self._find(each, owner) for each in chat.refers_to}
        return {key: each for key, each in looked_up.items() if each is not None}

    async def body(
        self, write: Callable[[StoredAnswer], bytes], answer: StoredAnswer, lanes: Lanes
    ) -> bytes:
        """What is written of an answer, and perhaps of what it continues.

        Raises:
            BadRequest: As `write` does.
        """
        n_bytes = _n_bytes([answer])
        if n_bytes <= SHORT_BYTES:
            return write(answer)
        return await _lane(n_bytes, lanes).run(partial(write, answer))

    @contextmanager
    def storing(self, encoder: Encoder, owner: str) -> Iterator[Encoder]:
        """A writer whose answer is kept before its client can know the end of it.

        If the client leaves before that, it is kept as far as it was sent.
        """
        if not _stores(type(encoder)):
            yield encoder
            return
        writer = _StoringWriter(cast(StoringEncoder, encoder), self, owner)
        try:
            yield writer
        finally:
            writer.store()


def _n_bytes(answers: Iterable[StoredAnswer]) -> int:
    """Bytes of whole conversations, counted no further than makes a difference."""
    n_bytes = 0
    for link in (link for answer in answers for link in answer.conversation()):
        n_bytes += link.n_bytes
        if n_bytes > LONG_BYTES:
            break
    return n_bytes


def _lane(n_bytes: int, lanes: Lanes) -> Workers:
    return lanes.medium if n_bytes <= LONG_BYTES else lanes.long


@cache
def _stores(kind: type[Encoder]) -> bool:
    # Slow to find out.
    return issubclass(kind, StoringEncoder)


class _StoringWriter:
    def __init__(self, encoder: StoringEncoder, answers: StoredAnswers, owner: str) -> None:
        self._encoder = encoder
        self._answers, self._owner = answers, owner
        self._is_stored = False

    def store(self) -> None:
        if not self._is_stored and (answer := self._encoder.stored()) is not None:
            self._is_stored = True
            self._answers.put(answer, self._owner)

    def encode(self, event: Event) -> bytes:
        data = self._encoder.encode(event)
        if isinstance(event, Finished):
            self.store()
        return data

    def error(self, error: ServerError) -> bytes:
        data = self._encoder.error(error)
        self.store()
        return data

    def collect(self, events: Iterable[Event]) -> bytes:
        data = self._encoder.collect(events)
        self.store()
        return data
