"""What takes events: the way in for everyone who records something."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from mlxdeck.telemetry.schema.events import Attrs
from mlxdeck.telemetry.write.records import Late, Part


class Emitter(Protocol):
    """What takes events. No method blocks on a disk, except `close`, and none raises."""

    @property
    def dropped_lines(self) -> int:
        """Number of lost events."""
        ...

    @property
    def path(self) -> Path | None:
        """The file that is being written, None if there is none."""
        ...

    @property
    def failing(self) -> str:
        """Why events are being lost right now; empty while all are written."""
        ...

    @property
    def processor_failures(self) -> int:
        """How often a processor raised, so that an event passed without it."""
        ...

    def emit(
        self,
        attrs: Attrs | Late,
        request_id: str = "",
        session_id: str = "",
        parts: Iterable[Part] = (),
        held_bytes: int = 0,
    ) -> None:
        """Record an event, from any thread; one that takes a while to make is made by the writer.

        `parts` are the parts of the conversation that it names; the file holds each of them once.
        `held_bytes` is how much those two hold until then. Behind a disk that is slow, such an
        event is made here, and its parts are lost.
        """
        ...

    def close(self, reason: str = "") -> None:
        """Write the queued events, and stop. Later events are dropped."""
        ...


class NullWriter:
    """Records nothing: telemetry is off."""

    dropped_lines = 0
    failing = ""
    processor_failures = 0
    path: Path | None = None

    def emit(
        self,
        attrs: Attrs | Late,
        request_id: str = "",
        session_id: str = "",
        parts: Iterable[Part] = (),
        held_bytes: int = 0,
    ) -> None:
        """Forget the event."""

    def close(self, reason: str = "") -> None:
        """Do nothing."""
