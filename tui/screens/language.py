"""The filter language on one page, made from its fields, and the filters that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxdeck.telemetry.filters import FIELDS

RULES = (
    ("a b", "both; the same as: a and b"),
    ("a or b", "one of them; parentheses group"),
    ("not a  -a", "everything else"),
    ("> >= < <= =", "numbers; 2s 300ms 5m, 8k, 50%"),
    (":  =", "texts: a part of it, the whole of it"),
    ('word  "two words"', "in any of the texts"),
    ("@name", "a filter that was kept; ctrl+s keeps one"),
)


class LanguageScreen(ModalScreen[None]):
    """Any of its keys goes back to the filter."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "Close")]
    DEFAULT_CSS = """
    LanguageScreen { align: center middle; }
    LanguageScreen > VerticalScroll {
        width: 70; max-width: 96%; height: auto; max-height: 90%;
        border: round $primary; border-title-color: $foreground; background: $surface;
        border-subtitle-color: $foreground 70%;
        padding: 1 2;
    }
    LanguageScreen Static { width: 1fr; height: auto; }
    """

    def __init__(self, kept: Mapping[str, str]) -> None:
        super().__init__()
        self._kept = kept

    def compose(self) -> ComposeResult:
        """Fields, rules, and what was kept."""
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "filters", "esc closes"
            fields = [(field.example, field.about) for field in FIELDS.values()]
            kept = [(f"@{name}", text) for name, text in self._kept.items()]
            for title, rows in (("", fields), ("together", RULES), ("kept", kept)):
                if rows:
                    yield Static(_table(title, rows))


def _table(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=20)
    table.add_column()
    if title:
        table.add_row(Text(f"\n{title}", "dim"), "")
    for left, right in rows:
        table.add_row(Text(left, "bold"), Text(right))
    return table
