"""What the keys do, read from the bindings that are in force."""

from __future__ import annotations

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Center, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

HIDDEN = {"app.help_quit", "screen.copy_text", "app.focus_previous"}


class HelpScreen(ModalScreen[None]):
    """Lists the keys of the screen below it; any of its own closes it."""

    BINDINGS = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 56; max-width: 95%; height: auto; max-height: 90%;
        border: round $primary; border-title-color: $foreground; background: $surface;
        border-subtitle-color: $foreground 70%;
        padding: 1 2;
    }
    HelpScreen Static { width: 1fr; height: auto; }
    """

    def __init__(self, below: Screen[object]) -> None:
        super().__init__()
        self._keys = keys_of(below)

    def compose(self) -> ComposeResult:
        """A table, as long as the screen allows."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="bold", no_wrap=True)
        table.add_column()
        for key, text in self._keys:
            table.add_row(key, text)
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "keys", "esc closes"
            yield Center(Static(table))


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """Keys and what they do there now, one entry for each action."""
    found: dict[str, tuple[list[str], str]] = {}
    for _, binding, enabled, tooltip in screen.active_bindings.values():
        if not enabled or not binding.description or binding.action in HIDDEN:
            continue
        keys, _ = found.setdefault(binding.action, ([], tooltip or binding.description))
        keys.append(screen.app.get_key_display(binding))
    return [("  ".join(keys), text) for keys, text in found.values()]
