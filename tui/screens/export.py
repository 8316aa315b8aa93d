"""Writes the listed requests to a file of the user's choice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from mlxdeck.telemetry.columns.growable_array import GrowableArray
from mlxdeck.telemetry.export.tables import FORMATS, ExportError, take, write
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt


class ExportScreen(ModalScreen[None]):
    """A list of formats; the file is put into the working folder."""

    BINDINGS = [Binding("escape", "dismiss", "Close")]
    DEFAULT_CSS = """
    ExportScreen { align: center middle; }
    ExportScreen > Vertical {
        width: 44; max-width: 95%; height: auto; background: $surface; padding: 0 1;
        border: round $primary; border-title-color: $foreground;
        border-subtitle-color: $dim;
    }
    ExportScreen OptionList { border: none; height: auto; background: $surface; }
    """

    def __init__(self, store: Store, rows: GrowableArray, as_of_ts: float) -> None:
        super().__init__()
        self._as_of_ts = as_of_ts
        self._store = store
        self._rows = rows

    def compose(self) -> ComposeResult:
        """One line a format."""
        with Vertical() as box:
            box.border_title = f"export {fmt.counted(len(self._rows), 'request')}"
            box.border_subtitle = "esc closes"
            yield OptionList(*(Option(name, id=name) for name in FORMATS))

    @on(OptionList.OptionSelected)
    def _write(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name = str(event.option_id)
        path = Path.cwd() / time.strftime(f"mlxdeck-%Y%m%d-%H%M%S.{name}")
        self.dismiss()
        # As they are now; a million of them take a while to write.
        put = partial(_put, self.app, take(self._store, self._rows, self._as_of_ts), path)
        self.app.run_worker(put, thread=True, group="export")


def _put(app: App[object], taken: Mapping[str, GrowableArray], path: Path) -> None:
    """Write the file, on a separate thread, and show the result."""
    try:
        write(taken, path)
    except (ExportError, OSError) as error:
        app.notify(str(error), title="not exported", severity="error", markup=False)
    else:
        written = fmt.counted(len(taken["later"]), "request")
        app.notify(f"{written} in {path}", title="exported", markup=False)
