"""The filter language on one page, made from its fields, and the filters that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text
from textual.binding import Binding

from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.tui.screens.page import PageScreen

RULES = (
    ("a b", "both; the same as: a and b"),
    ("a or b", "one of them; parentheses group"),
    ("not a  -a", "everything else"),
    ("> >= < <= =", "numbers; 2s 300ms 5m, 8k, 50%"),
    (":  =", "texts: a part of it, the whole of it"),
    ('word  "two words"', "in any of the texts"),
    ("@name", "a filter that was kept; ctrl+s keeps one"),
)


class LanguageScreen(PageScreen):
    """Any of its keys goes back to the filter."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "Close")]

    def __init__(self, kept: Mapping[str, str]) -> None:
        fields = [(field.example, field.about) for field in FIELDS.values()]
        names = [(f"@{name}", text) for name, text in kept.items()]
        groups = (("", fields), ("together", RULES), ("kept", names))
        super().__init__("filters", [_table(title, rows) for title, rows in groups if rows])


def _table(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=20)
    table.add_column()
    if title:
        table.add_row(Text(f"\n{title}", "dim"), "")
    for left, right in rows:
        table.add_row(Text(left, "bold"), Text(right))
    return table
