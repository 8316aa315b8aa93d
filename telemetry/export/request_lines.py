"""The lines of requests that have ended, read again from their files. For one thread."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlxdeck.telemetry.schema.codec import Line, Unreadable, decode
from mlxdeck.telemetry.schema.events import Content, RequestEnd, StreamStart


@dataclass(slots=True)
class RequestLines:
    """What telemetry says of one request."""

    header: StreamStart | None
    """Of the file in which it ended."""
    lines: list[Line] = field(default_factory=list)
    """In order, without captured content; the last one is its end."""


def ended_requests(files: Sequence[Path], wanted: Collection[str]) -> Iterator[RequestLines]:
    """Some requests by id, in the order in which they ended. Bad lines are passed over.

    A request may begin in one file and end in a later one: `files` have to be in order.
    """
    open_requests: dict[str, RequestLines] = {}
    for path in files:
        header: StreamStart | None = None
        with path.open("rb") as file:
            for raw in file:
                try:
                    line = decode(raw)
                except Unreadable:
                    continue
                if isinstance(line.attrs, StreamStart):
                    header = line.attrs
                if line.request_id not in wanted or isinstance(line.attrs, Content):
                    continue
                request = open_requests.setdefault(line.request_id, RequestLines(header))
                request.lines.append(line)
                if isinstance(line.attrs, RequestEnd):
                    request.header = header
                    yield open_requests.pop(line.request_id)
