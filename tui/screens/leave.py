"""Whether the dashboard ends while requests run on the server that ends with it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxdeck.tui.text import format as fmt


class LeaveScreen(ModalScreen[bool]):
    """Returns whether to leave."""

    BINDINGS = [
        Binding("q,y", "dismiss(True)", "Leave"),
        Binding("escape,n", "dismiss(False)", "Stay"),
    ]
    DEFAULT_CSS = """
    LeaveScreen { align: center middle; }
    LeaveScreen > Vertical {
        width: 56; max-width: 95%; height: auto; background: $surface;
        border: round $warning; border-title-color: $foreground; padding: 0 1;
        border-subtitle-color: $dim;
    }
    """

    def __init__(self, n_running: int) -> None:
        super().__init__()
        self._n_running = n_running

    def compose(self) -> ComposeResult:
        """What ends, and the keys."""
        with Vertical() as box:
            box.border_title, box.border_subtitle = "leave?", "q or y leaves · esc stays"
            what = fmt.counted(self._n_running, "request")
            are = "is" if self._n_running == 1 else "are"
            text = f"{what} {are} running. Leaving stops the server, which waits a while for them."
            yield Static(Content(text))
