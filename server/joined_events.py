"""The events of an answer with adjoining pieces joined: what is one text is one event.

Joining happens once, so that a long answer costs no more for each of its tokens than a short one.
"""

from __future__ import annotations

from mlxdeck.server.chat import (
    Event,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)


class JoinedEvents:
    """Takes events one by one. What only the stream of them needs is left out."""

    def __init__(self) -> None:
        self._done: list[Event] = []
        self._kind: type[TextDelta | ThinkingDelta | ToolCallDelta] | None = None
        self._pieces: list[str] = []
        self.n_chars = 0
        """Of all texts."""

    def __bool__(self) -> bool:
        return bool(self._done or self._pieces)

    def add(self, event: Event) -> None:
        """One more."""
        match event:
            case TextDelta(text) | ThinkingDelta(text) | ToolCallDelta(text):
                kind = type(event)
                if kind is not self._kind:
                    self._end()
                    self._kind = kind
                self._pieces.append(text)
                self.n_chars += len(text)
            case Started() | Ping():
                pass
            case _:
                self._end()
                self._done.append(event)

    @property
    def events(self) -> list[Event]:
        """All of them so far."""
        self._end()
        return list(self._done)

    def clear(self) -> None:
        """Forget all of them."""
        self._done.clear()
        self._pieces.clear()
        self._kind, self.n_chars = None, 0

    def _end(self) -> None:
        if self._kind is not None:
            self._pieces[:] = ["".join(self._pieces)]
            self._done.append(self._kind(self._pieces.pop()))
            self._kind = None
