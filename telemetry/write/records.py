"""What waits to be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlxdeck.telemetry.schema.events import Attrs, Content

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
