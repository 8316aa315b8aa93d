"""Bodies that came before, and the requests that were read from them. For the event loop.

Agents repeat requests word for word. Reading one of 78 KB takes some milliseconds, its digest a
tenth of one. A request is never changed once it is read, so that several may share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.lru_map import LruMap

MAX_ENTRIES = 64
MAX_BYTES = 2 * 1024**2
"""Of all bodies together; a request takes several times the bytes of its body."""

Decode = Callable[[bytes, Mapping[str, str]], ChatRequest]


class _Watched(Mapping[str, str]):
    """Headers, and which of them were looked at."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self.seen: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        self.seen[name] = value = self._headers.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        for name in self._headers:
            self.seen[name] = self._headers.get(name)
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class ReadBody:
    """A request, and what of its head it was read from."""

    chat: ChatRequest
    seen: Mapping[str, str | None]


def read(how: Decode, body: bytes, headers: Mapping[str, str]) -> ReadBody:
    """Read a body as its dialect does, which must depend on nothing else. Any thread.

    Raises:
        BadRequest: As the dialect does.
    """
    watched = _Watched(headers)
    chat = how(body, watched)
    named = repr((how, _digest(body), sorted(watched.seen.items())))
    return ReadBody(replace(chat, body_key=_digest(named.encode()).hex()), watched.seen)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


class KnownBodies:
    """The last requests, by the bytes of their bodies and the headers that were read with them."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._known: LruMap[tuple[Decode, bytes], ReadBody] = LruMap(max_entries, max_bytes)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, how: Decode, body: bytes, headers: Mapping[str, str]) -> ChatRequest | None:
        """What `how` read from these bytes before, with the same headers as far as it read any."""
        known = self._known.get((how, _digest(body)))
        if known is None or any(headers.get(name) != told for name, told in known.seen.items()):
            return None
        return known.chat

    def put(self, how: Decode, body: bytes, read: ReadBody) -> None:
        """Keep what was read from a body."""
        self._known.put((how, _digest(body)), read, len(body))
