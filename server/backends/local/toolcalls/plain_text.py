"""An answer that is text alone, with every blank and every tag, up to a stop sequence."""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import Piece
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import TextDelta


class PlainText(Splitter):
    """Passes one answer on. Feed it text, then close it."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Any of `stops` ends the answer, and is no part of it."""
        self._said: list[str] = []
        # No format reads anything here.
        super().__init__(Markers(stops=stops), FORMATS["json_tags"], ())

    def _advance(self) -> list[Piece]:
        next(self._reading, None)
        text, self._said = "".join(self._said), []
        return [TextDelta(text)] if text else []

    def _read(self, *, thinking: bool) -> Reading[None]:
        del thinking
        while self.stopped_by is None:
            self._source.forget()
            text, marker = self._source.certain(*self._markers.stops)
            self._said.append(text)
            if marker:
                self.stopped_by = marker
            elif self._source.ended:
                return
            else:
                yield
