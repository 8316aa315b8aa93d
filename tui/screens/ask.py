"""A question that is answered in one line."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input


class AskScreen(ModalScreen[str | None]):
    """Returns what was typed, None if nothing was."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Close")]
    DEFAULT_CSS = """
    AskScreen { align: center middle; }
    AskScreen > Vertical {
        width: 56; max-width: 95%; height: auto; background: $surface;
        border: round $primary; border-title-color: $foreground; padding: 0 1;
        border-subtitle-color: $foreground 70%;
    }
    AskScreen Input, AskScreen Input:focus { background: $surface; }
    """

    def __init__(self, title: str, example: str) -> None:
        super().__init__()
        self._title = title
        self._example = example

    def compose(self) -> ComposeResult:
        """One line in a box."""
        with Vertical() as box:
            box.border_title, box.border_subtitle = self._title, "enter · esc closes"
            yield Input(placeholder=self._example, compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """That is the answer."""
        event.stop()
        self.dismiss(event.value.strip() or None)
