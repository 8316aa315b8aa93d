"""What the readers of both APIs share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from mlxdeck.server.dialects.surrogates import text_alone
from mlxdeck.server.request_facts import StreamItem

_MAX_TOKENS = 2**29
"""Beyond it, nobody can have counted right. A sum of three such can still be recorded."""


class OutOfOrder(ValueError):
    """A stream says something that has no place where it stands; the text says what."""


class AnswerReader(Protocol):
    """Reads one answer of another server."""

    model: str
    """Its name of the model; empty until it is known."""
    is_done: bool
    """Whether `Finished` has come."""

    @property
    def is_ending(self) -> bool:
        """Whether only figures can follow."""

    def read(self, event: dict[str, Any]) -> Iterator[StreamItem]:
        """What one event of the stream says. Raises `OutOfOrder`."""

    def whole(self, message: dict[str, Any]) -> Iterator[StreamItem]:
        """An answer that came as one body. Raises `OutOfOrder`."""

    def close(self) -> Iterator[StreamItem]:
        """The stream has ended. Raises `OutOfOrder` if the answer had not."""


def decoded(data: bytes) -> Any:
    """JSON, also with halves of surrogate pairs and bytes that are no UTF-8.

    Raises:
        ValueError: It is none.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.json.decode(text_alone(data))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def count_of(fields: Any, key: str) -> int | None:
    """A number of tokens; None where there is none, or something that is no number."""
    value = fields.get(key) if isinstance(fields, dict) else None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_TOKENS
    return value if is_count else None
