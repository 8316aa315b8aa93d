"""Lines read again from their files: all lines of one request, and captured content."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.file_names import run_of
from mlxdeck.telemetry.store.store import FileSpan, Store

SEARCHED_BYTES = 512 << 20
"""How far back content is looked for."""
FILES_BEFORE = 4
"""And in how many files before a request's own."""


def lines_of(store: Store, row: int) -> list[bytes]:
    """A request's lines as written; none from a file that was removed or replaced."""
    found: list[tuple[float, bytes]] = []
    for span in store.spans(row):
        try:
            found += _within(span, store.shared_ids.written(row))
        except (OSError, ValueError):
            # Removed, or empty: an empty file can't be mapped.
            continue
    return [raw for _, raw in sorted(found, key=lambda each: each[0])]


def _within(span: FileSpan, request_id: str) -> Iterator[tuple[float, bytes]]:
    """The lines between a request's first and last that are its own, each with its time."""
    name = msgspec.json.encode(request_id)
    with span.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        end = text.find(b"\n", span.last)
        end, at = end if end >= 0 else len(text), span.first
        while at < end and (found := text.find(name, at, end)) >= 0:
            start = max(at, text.rfind(b"\n", at, found) + 1)
            at = text.find(b"\n", found, end) + 1 or end + 1
            raw = text[start : at - 1]
            try:
                line = codec.decode(raw)
            except codec.Unreadable:
                continue
            if line.request_id == request_id:
                yield line.ts, raw


def files_of(store: Store, row: int) -> list[Path]:
    """Files that may hold the parts of a request's conversation, the most likely file first.

    A file of 0.1 holds only the new parts of the run, so that earlier files are included.
    """
    own = dict.fromkeys(span.path for span in store.spans(row))
    before: dict[Path, None] = {}
    for path in own:
        run = run_of(path)
        place = run.index(path) if path in run else 0
        before |= dict.fromkeys(run[place + 1 : place + 1 + FILES_BEFORE])
    return [*own, *(path for path in before if path not in own)]


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
            # Removed, or empty: an empty file can't be mapped.
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
                attrs = codec.decode(text[start : end if end >= 0 else len(text)]).attrs
            except codec.Unreadable:
                continue
            if isinstance(attrs, t.Content):
                found[each] = attrs
    return found
