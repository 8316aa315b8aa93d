"""Writes what is listed to a file of one's choice."""

from __future__ import annotations

import time
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from mlxdeck.telemetry.export import FORMATS, ExportError, write
from mlxdeck.telemetry.sessions import Rows
from mlxdeck.telemetry.store import Store


class ExportScreen(ModalScreen[None]):
    """A list of formats; the file is put into the working folder."""

    BINDINGS = [Binding("escape", "dismiss", "Close")]
    DEFAULT_CSS = """
    ExportScreen { align: center middle; }
    ExportScreen > Vertical {
        width: 44; height: auto; background: $surface; padding: 0 1;
        border: round $primary; border-title-color: $foreground;
        border-subtitle-color: $foreground 70%;
    }
    ExportScreen OptionList { border: none; height: auto; background: $surface; }
    """

    def __init__(self, store: Store, rows: Rows, as_of_ts: float) -> None:
        super().__init__()
        self._as_of_ts = as_of_ts
        self._store = store
        self._rows = rows

    def compose(self) -> ComposeResult:
        """One line a format."""
        with Vertical() as box:
            box.border_title = f"export {len(self._rows):,} requests"
            box.border_subtitle = "esc closes"
            yield OptionList(*(Option(name, id=name) for name in FORMATS))

    @on(OptionList.OptionSelected)
    def _write(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name = str(event.option_id)
        path = Path.cwd() / time.strftime(f"mlxdeck-%Y%m%d-%H%M%S.{name}")
        self.dismiss()
        try:
            write(self._store, self._rows, path, self._as_of_ts)
        except (ExportError, OSError) as error:
            self.app.notify(str(error), title="not exported", severity="error", markup=False)
            return
        self.app.notify(f"{len(self._rows):,} requests in {path}", title="exported", markup=False)
