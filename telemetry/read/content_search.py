"""Which requests say a text, as far as that was captured. Reads files; for one thread.

What a request says is its prompt, its answer, and the message of its error. A stream tells each
part of a conversation once, with the request that brought it; later ones name it by its hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES, Region
from mlxdeck.telemetry.schema.events import Content, Error, RequestStart

_HEAD_BYTES = 300
_MARKS = tuple(f'"event":"{kind.NAME}"'.encode() for kind in (Content, Error, RequestStart))


class _Attrs(msgspec.Struct):
    kind: str = msgspec.field(default="", name="mlx.content.kind")
    hash: str = msgspec.field(default="", name="mlx.content.hash")
    content: str = msgspec.field(default="", name="mlx.content.text")
    error: str = msgspec.field(default="", name="message")
    system: str = msgspec.field(default="", name="mlx.hash.system")
    messages: tuple[str, ...] = msgspec.field(default=(), name="mlx.hash.messages")


class _Line(msgspec.Struct):
    attrs: _Attrs
    request_id: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class Search:
    """Goes through files as far as they reach, and later through what was added to them."""

    def __init__(self, text: str) -> None:
        """Upper and lower case are the same."""
        self._wanted = text.lower()
        # As it stands in the JSON that is searched.
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
                # Gone; what it told stays.
                continue
            more |= len(chunk) == CHUNK_BYTES
            for _, raw in region.cut(chunk):
                found.update(self._among(raw))
        return found, more

    def _among(self, raw: bytes) -> Iterator[str]:
        if not any(mark in raw for mark in self._marks):
            return
        for line in raw.split(b"\n"):
            # The event stands near the beginning, whatever a text may hold.
            if any(mark in line[:_HEAD_BYTES] for mark in self._marks):
                try:
                    told = _decode(line)
                    if self._says(told.attrs):
                        yield told.request_id
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # Whoever reads the stream counts it.
                    continue

    @property
    def _marks(self) -> tuple[bytes, ...]:
        """Of lines that may tell something; requests only name what was told before."""
        return _MARKS if self._hashes else _MARKS[:-1]

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
