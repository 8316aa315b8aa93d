"""Which requests say a text, as far as what they say was captured. Reads files; for one thread.

A stream tells each part of a conversation once, with the request that brought it: there it is
found, and not in every later turn that sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlxdeck.telemetry.events import Content
from mlxdeck.telemetry.regions import CHUNK_BYTES, Region

_MARK = b'"%b"' % Content.NAME.encode()


class _Attrs(msgspec.Struct):
    kind: str = msgspec.field(default="", name="mlx.content.kind")
    content: str = msgspec.field(default="", name="mlx.content.text")


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
        if _MARK not in raw:
            return
        for line in raw.split(b"\n"):
            if _MARK not in line:
                continue
            try:
                told = _decode(line)
                if told.attrs.kind != "tools" and self._says(told.attrs.content):
                    yield told.request_id
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Whoever reads the stream counts it.
                continue

    def _says(self, content: str) -> bool:
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
