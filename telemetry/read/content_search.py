"""Which requests contain a text, as far as content was captured. Reads files; for one thread.

The search covers a request's prompt, its answer and the message of its error. A stream holds each
part of a conversation once, with the first request that has it. Later requests refer to the part by
its hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlxdeck.telemetry.read.event_marks import EventMarks
from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES, Region
from mlxdeck.telemetry.schema.events import Content, Error, RequestStart

_TEXTS = EventMarks(Content, Error)
_STARTS = EventMarks(RequestStart)
_ALL = EventMarks(Content, Error, RequestStart)


class _Attrs(msgspec.Struct):
    kind: str = msgspec.field(default="", name="mlx.content.kind")
    hash: str = msgspec.field(default="", name="mlx.content.hash")
    content: str = msgspec.field(default="", name="mlx.content.text")
    error: str = msgspec.field(default="", name="message")
    system: str = msgspec.field(default="", name="mlx.hash.system")
    messages: tuple[str, ...] = msgspec.field(default=(), name="mlx.hash.messages")
    user_text: str = msgspec.field(default="", name="mlx.last_user_text")


class _Line(msgspec.Struct):
    event: str
    attrs: _Attrs
    request_id: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class Search:
    """Searches files to their present end, and later the lines added to them."""

    def __init__(self, text: str) -> None:
        """Upper and lower case are the same."""
        self._wanted = text.lower()
        # The text as it is encoded in JSON.
        self._escaped = msgspec.json.encode(self._wanted).decode()[1:-1]
        self._regions: dict[Path, Region] = {}
        self._hashes: set[str] = set()
        """Of parts that say it."""

    def look(self, paths: Iterable[Path]) -> tuple[set[str], bool]:
        """Read a chunk of each file: the ids that were found, and whether there may be more."""
        found, more = set[str](), False
        for path in paths:
            region = self._regions.setdefault(path, Region(0))
            try:
                with path.open("rb") as file:
                    if file.seek(0, 2) < region.at:
                        region = self._regions[path] = Region(0)
                    file.seek(region.at)
                    chunk = file.read(CHUNK_BYTES)
            except OSError:
                # The file was removed; its earlier results stay valid.
                continue
            more |= len(chunk) == CHUNK_BYTES
            for _, raw in region.cut(chunk):
                found.update(self._among(raw))
        return found, more

    def _among(self, raw: bytes) -> Iterator[str]:
        if not self._marks.are_in(raw):
            return
        for line in raw.split(b"\n"):
            # What a line says can add to what is looked for.
            if (marks := self._marks).may_be(line):
                try:
                    told = _decode(line)
                    if told.event in marks.kinds and self._says(told.attrs):
                        yield told.request_id
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # The stream's reader counts bad lines.
                    continue

    @property
    def _marks(self) -> EventMarks:
        """Of lines that may match. Requests only refer to parts by hash."""
        return _ALL if self._hashes else _TEXTS

    def _says(self, attrs: _Attrs) -> bool:
        if not self._hashes.isdisjoint((attrs.system, *attrs.messages)):
            return True
        if self._wanted in attrs.error.lower():
            return True
        said = attrs.kind != "tools" and self._within(attrs.content)
        if said and attrs.hash:
            self._hashes.add(attrs.hash)
        return said

    def _within(self, content: str) -> bool:
        if self._escaped not in content.lower():
            return False
        return any(self._wanted in text.lower() for text in _texts(msgspec.json.decode(content)))


class UserSearch(Search):
    """The same among the users' own last texts alone."""

    @property
    def _marks(self) -> EventMarks:
        return _STARTS

    def _says(self, attrs: _Attrs) -> bool:
        return self._wanted in attrs.user_text.lower()


def _texts(value: Any) -> Iterator[str]:
    """What blocks say, without what kind of block they are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name != "type":
                yield from _texts(each)
