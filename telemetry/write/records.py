"""What waits to be written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mlxdeck.telemetry.schema.events import Attrs, Content

logger = logging.getLogger(__name__)
T = TypeVar("T")
NO_FORM = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What making or encoding an event raises if it has no JSON form."""
Late = Callable[[], Attrs]
"""Makes an event; called on the writer's thread, so that who emits it isn't held up. Behind a slow
disk, who emits it calls it."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event with what its line says around it."""

    attrs: Attrs
    ts: float
    mono: float
    request_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a conversation that each file holds once; `content` makes its text."""

    kind: str
    role: str
    hash: str
    """What `request.start` calls it by."""
    content: Callable[[], str]
    """Called on the writer's thread, and only if the file does not hold the part yet."""

    def event(self) -> Content:
        """The event that carries it."""
        return Content(kind=self.kind, role=self.role, hash=self.hash, content=self.content())


def made_of(make: Callable[[], T]) -> T | None:
    """What is made; None, and a line in the log, if that fails."""
    try:
        return make()
    except NO_FORM as error:
        logger.warning("telemetry: what has no JSON form was dropped: %r", error)
    # The edge to who records it, which may be a request: a bug costs one event, and nothing else.
    except Exception:
        logger.exception("telemetry: an event was dropped")
    return None
