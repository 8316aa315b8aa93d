"""The keys and their actions, read from the active bindings."""

from __future__ import annotations

from rich.table import Table
from textual.binding import Binding
from textual.screen import Screen

from mlxdeck.tui.screens.page import PageScreen

HIDDEN = {"app.help_quit", "screen.copy_text", "app.focus_previous"}


class HelpScreen(PageScreen):
    """Lists the keys of the screen below it; each key of the help screen closes it."""

    BINDINGS = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def __init__(self, below: Screen[object]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="bold", no_wrap=True)
        table.add_column()
        for key, text in keys_of(below):
            table.add_row(key, text)
        super().__init__("keys", [table])


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """Keys and their present actions, one entry for each action."""
    found: dict[str, tuple[list[str], str]] = {}
    for _, binding, enabled, tooltip in screen.active_bindings.values():
        if not enabled or not binding.description or binding.action in HIDDEN:
            continue
        keys, _ = found.setdefault(binding.action, ([], tooltip or binding.description))
        keys.append(screen.app.get_key_display(binding))
    return [("  ".join(keys), text) for keys, text in found.values()]
