"""The events of an answer with adjoining pieces joined: what is one text is one event.

Joining happens once, so that a long answer costs no more for each of its tokens than a short one.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlxdeck.server.chat import (
    Event,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from mlxdeck.server.joined_text import JoinedText

BETWEEN = "\n\n"
"""Between thinking, text and calls."""


class JoinedEvents:
    """Takes events one by one. What only the stream of them needs is left out."""

    def __init__(self) -> None:
        self._done: list[Event] = []
        self._kind: type[TextDelta | ThinkingDelta | ToolCallDelta] | None = None
        self._text = JoinedText()
        self.n_chars = 0
        """Of all texts."""

    def __bool__(self) -> bool:
        return bool(self._done) or self._kind is not None

    def add(self, event: Event) -> None:
        """One more."""
        match event:
            case TextDelta(text) | ThinkingDelta(text) | ToolCallDelta(text):
                kind = type(event)
                if kind is not self._kind:
                    self._end()
                    self._kind = kind
                self._text.add(text)
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

    def tail(self, n_chars: int) -> str:
        """The end of all texts, thinking and calls included, of at most so many characters."""
        found: list[str] = []
        left = n_chars
        for text in self._backwards():
            if left <= 0:
                break
            found.append(text[-left:])
            left -= len(text)
        return "".join(reversed(found))

    def _backwards(self) -> Iterator[str]:
        yield from self._text.backwards()
        for event in reversed(self._done):
            match event:
                case TextDelta(text) | ThinkingDelta(text):
                    yield BETWEEN
                    yield text
                case ToolCallEnd():
                    yield BETWEEN
                case ToolCallDelta(text):
                    yield text
                case ToolCallStart(name=name):
                    yield f"{name} "

    def clear(self) -> None:
        """Forget all of them."""
        self._done.clear()
        self._text.clear()
        self._kind, self.n_chars = None, 0

    def _end(self) -> None:
        if self._kind is not None:
            self._done.append(self._kind(self._text.text))
            self._text = JoinedText()
            self._kind = None
