"""A question that is answered in one line."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class AskScreen(ModalScreen[str | None]):
    """Returns the typed text, or None if nothing was typed."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Close")]
    DEFAULT_CSS = """
    AskScreen { align: center middle; }
    AskScreen > Vertical {
        width: 56; max-width: 95%; height: auto; background: $surface;
        border: round $primary; border-title-color: $foreground; padding: 0 1;
        border-subtitle-color: $dim;
    }
    AskScreen Static { color: $text-error; }
    AskScreen Input, AskScreen Input:focus { background: $surface; }
    """

    def __init__(
        self, title: str, example: str, check: Callable[[str], object] | None = None
    ) -> None:
        """`check` raises a ValueError, with a text for the user, if an answer is not valid."""
        super().__init__()
        self._check = check
        self._title = title
        self._example = example

    def compose(self) -> ComposeResult:
        """One line in a box."""
        with Vertical() as box:
            box.border_title, box.border_subtitle = self._title, "enter · esc closes"
            yield Input(placeholder=self._example, compact=True)
            yield Static()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Accept the answer, or show the mistake."""
        event.stop()
        answer = event.value.strip()
        try:
            if answer and self._check:
                self._check(answer)
        except ValueError as error:
            self.query_one(Static).update(Content(f"✗ {error}"))
        else:
            self.dismiss(answer or None)
