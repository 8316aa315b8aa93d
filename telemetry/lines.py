"""Lines read again from their files: all of one request, and the content that others told."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlxdeck.telemetry import events as t
from mlxdeck.telemetry.store import Store
from mlxdeck.telemetry.tail import read_line

SEARCHED_BYTES = 512 << 20
"""How far back content is looked for."""


def lines_of(store: Store, row: int) -> list[bytes]:
    """A request's lines as written; none of a file that is gone or has been written anew."""
    request_id, found = store.request_ids[row], []
    for place in store.places(row):
        raw = read_line(place.path, place.offset)
        try:
            if t.decode(raw).request_id == request_id:
                found.append(raw)
        except t.Unreadable:
            continue
    return found


def content(paths: Iterable[Path], hashes: Sequence[str]) -> dict[str, t.Content]:
    """The parts of conversations that are known by these hashes, as far as files hold them."""
    found: dict[str, t.Content] = {}
    for path in paths:
        wanted = [each for each in dict.fromkeys(hashes) if each and each not in found]
        if not wanted:
            break
        try:
            found |= _search(path, wanted)
        except (OSError, ValueError):
            # Gone, or empty, which can't be mapped.
            continue
    return found


def _search(path: Path, hashes: Sequence[str]) -> dict[str, t.Content]:
    found = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        least = max(0, len(text) - SEARCHED_BYTES)
        if text.find(b'"mlx.content.hash"', least) < 0:
            return {}
        for each in hashes:
            at = text.rfind(b'"mlx.content.hash":"%b"' % each.encode(), least)
            if at < 0:
                continue
            start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
            try:
                attrs = t.decode(text[start : end if end >= 0 else len(text)]).attrs
            except t.Unreadable:
                continue
            if isinstance(attrs, t.Content):
                found[each] = attrs
    return found
