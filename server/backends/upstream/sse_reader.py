"""Server-sent events out of a stream of bytes, within a limit of memory. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MARK = b"\xef\xbb\xbf"


class SseReader:
    """Reads one stream. Comments and fields without a use are skipped."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._line = bytearray()
        """The line that has no end yet."""
        self._data: list[bytes] = []
        self._n_bytes = 0
        self._is_first = True
        self._after_return = False
        """Whether a carriage return came last: a line feed behind it ends no other line."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is complete by now."""
        if self._after_return and chunk:
            chunk, self._after_return = chunk.removeprefix(b"\n"), False
        looked_at, start, events = len(self._line), 0, []
        self._line += chunk
        for found in _LINE_END.finditer(self._line, looked_at):
            event = self._take(bytes(self._line[start : found.start()]))
            start = found.end()
            # What is complete is not kept waiting for the other half of its last line end.
            self._after_return = found[0] == b"\r" and start == len(self._line)
            if event is not None:
                events.append(event)
        del self._line[:start]
        return events

    @property
    def is_too_long(self) -> bool:
        """Whether the event that has no end yet takes more memory than it may."""
        return self._n_bytes + len(self._line) > self._max_bytes

    @property
    def is_between(self) -> bool:
        """Whether the stream may end here without cutting an event."""
        return not self._line.strip() and not self._data

    def _take(self, line: bytes) -> bytes | None:
        """One whole line; the empty one ends an event."""
        if self._is_first:
            line, self._is_first = line.removeprefix(_MARK), False
        if not line:
            data, self._data, self._n_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._n_bytes += len(line)
        return None
