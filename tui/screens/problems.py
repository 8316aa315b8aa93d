"""What could not be read: bad lines with their place and reason, and what else is missing."""

from __future__ import annotations

import os

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxdeck.telemetry.tail import BadLine
from mlxdeck.tui import format as fmt
from mlxdeck.tui.context import Context

SHOWN_BYTES = 300
MAX_SHOWN = 200


class ProblemsScreen(ModalScreen[None]):
    """The latest first; as they were when it was opened."""

    BINDINGS = [Binding("escape,x,q,enter", "dismiss", "Close")]
    DEFAULT_CSS = """
    ProblemsScreen { align: center middle; }
    ProblemsScreen > VerticalScroll {
        width: 96%; max-width: 120; height: auto; max-height: 90%;
        border: round $primary; border-title-color: $foreground; background: $surface;
        border-subtitle-color: $foreground 70%;
        padding: 1 2;
    }
    ProblemsScreen Static { width: 1fr; height: auto; }
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._ctx = context

    def compose(self) -> ComposeResult:
        """A summary, then a bad line in two: what is wrong where, and how it begins."""
        source = self._ctx.source
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "what could not be read", "esc closes"
            yield Static(_summary(self._ctx), markup=False)
            table = Table.grid(padding=(0, 2))
            for bad in list(reversed(source.bad))[:MAX_SHOWN]:
                table.add_row(Text(f"\n{bad.path.name} at byte {bad.offset:,}", "bold"))
                table.add_row(Text(bad.reason))
                table.add_row(Text(_beginning(bad), "dim"))
            yield Static(table)


def _summary(ctx: Context) -> str:
    source, store = ctx.source, ctx.store
    found = [f"{source.n_bad:,} bad lines of {store.n_lines + source.n_bad:,}"]
    if source.refused:
        found.append(f"refused: {source.refused}")
    if store.n_dropped:
        found.append(f"{store.n_dropped:,} lines the server could not write")
    if store.n_unknown:
        found.append(f"{store.n_unknown:,} of events that this version doesn't know")
    return "\n".join(found)


def _beginning(bad: BadLine) -> str:
    """How the line begins; whatever bytes it has."""
    try:
        fd = os.open(bad.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "(the file is gone)"
    try:
        raw = os.pread(fd, SHOWN_BYTES, bad.offset).split(b"\n")[0]
    finally:
        os.close(fd)
    return fmt.one_line(raw.decode("utf-8", "backslashreplace"), SHOWN_BYTES)
