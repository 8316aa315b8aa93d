"""Unreadable lines with their place and reason, and other missing data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text
from textual.binding import Binding

from mlxdeck.telemetry.read.line_buffer import CHUNK_BYTES
from mlxdeck.telemetry.read.tail import BadLine
from mlxdeck.tui.screens.page import PageScreen
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt

SHOWN_BYTES = 300
MAX_SHOWN = 200
COUNTED_BYTES = 128 << 20
"""Beyond this offset, a place is shown in bytes: counting lines would take too long."""


class ProblemsScreen(PageScreen):
    """The latest problem first; the list doesn't change while it is open."""

    BINDINGS = [Binding("escape,x,q,enter", "dismiss", "Close")]
    DEFAULT_CSS = "ProblemsScreen > VerticalScroll { width: 96%; max-width: 120; }"

    def __init__(self, context: Context) -> None:
        table = Table.grid(padding=(0, 2))
        shown = list(reversed(context.source.bad))[:MAX_SHOWN]
        numbers = {
            path: _line_numbers(path, [bad.offset for bad in shown if bad.path == path])
            for path in {bad.path for bad in shown}
        }
        for bad in shown:
            number = numbers[bad.path].get(bad.offset)
            place = f"line {number:,}" if number else f"at byte {bad.offset:,}"
            table.add_row(Text(f"\n{bad.path.name} {place}", "bold"))
            table.add_row(Text(bad.reason))
            table.add_row(Text(_beginning(bad), "dim"))
        super().__init__("what could not be read", [_summary(context), table])


def _summary(ctx: Context) -> str:
    source, store = ctx.source, ctx.store
    found = [f"{source.n_bad:,} bad lines of {store.n_lines + source.n_bad:,}"]
    if source.notes:
        found += [f"{fmt.counted(len(source.following), 'file')} read", *source.notes]
    if source.refused:
        found.append(f"refused: {source.refused}")
    if n_dropped := store.dropped.until():
        found.append(f"{fmt.counted(n_dropped, 'line')} the server could not write")
    if store.n_unknown:
        found.append(f"{store.n_unknown:,} of events that this version doesn't know")
    return "\n".join(found)


def _line_numbers(path: Path, offsets: Iterable[int]) -> dict[int, int]:
    """In which line each offset lies, of those that are soon counted."""
    found: dict[int, int] = {}
    at, number = 0, 1
    try:
        with path.open("rb") as file:
            for offset in sorted(offset for offset in offsets if offset <= COUNTED_BYTES):
                while at < offset:
                    part = file.read(min(CHUNK_BYTES, offset - at))
                    if not part:
                        return found
                    number, at = number + part.count(b"\n"), at + len(part)
                found[offset] = number
    except OSError:
        return {}
    return found


def _beginning(bad: BadLine) -> str:
    """The beginning of the line, whatever bytes it has."""
    try:
        fd = os.open(bad.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "(the file is gone)"
    try:
        raw = os.pread(fd, SHOWN_BYTES, bad.offset).split(b"\n")[0]
    finally:
        os.close(fd)
    return fmt.one_line(raw.decode("utf-8", "backslashreplace"), SHOWN_BYTES)
