"""The filter language on one page, made from its fields, and the filters that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll

from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.tui.screens.page import PageScreen

RULES = (
    ("a b   a && b", "both; the same as: a and b"),
    ("a or b   a || b", "one of them; parentheses group"),
    ("not a   -a   !a", "everything else"),
    ("> >= < <= = !=", "numbers: 2s 300ms 5m, 8k, 50%"),
    ("latency:1s..5s", "between two numbers"),
    (":   =   !=", "texts: a part of it, the whole of it, another"),
    ("tool:Read|Bash", "one of several values"),
    ("tool:Re*   tool:*", "begins so; any at all"),
    ('tool=""', "none"),
    ('word   "two words"', "in any of the texts; quotes for any signs"),
    ("@name", "a filter that was kept; ctrl+s keeps one"),
    ("tab   shift+tab", "completes; again: the next choice, the one before"),
    ("space   enter", "ends a word; until then it never hides all"),
)
WIDE, NARROW = 120, 60
"""From so many columns on there is room for two tables; below, a text stands under its example."""


class LanguageScreen(PageScreen):
    """Any of its keys goes back to the filter."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "Close")]

    def __init__(self, kept: Mapping[str, str], width: int) -> None:
        """`width` is that of the terminal, in cells."""
        rows = [(each.example, each.about, each.numbers is None) for each in FIELDS.values()]
        numbers = [(left, right) for left, right, is_text in rows if not is_text]
        texts = [(left, right) for left, right, is_text in rows if is_text]
        names = [(f"@{name}", text) for name, text in kept.items()]
        groups = [("together", RULES), ("numbers", numbers), ("texts", texts), ("kept", names)]
        made = [_table(title, rows, width) for title, rows in groups if rows]
        self._is_wide = width >= WIDE
        if self._is_wide:
            both = Table.grid(padding=(0, 2), expand=True)
            both.add_column(ratio=1)
            both.add_column(ratio=1)
            both.add_row(Group(*made[:2]), Group(*made[2:]))
            made = [both]
        super().__init__("filters", made)

    def on_mount(self) -> None:
        if self._is_wide:
            self.query_one(VerticalScroll).styles.width = WIDE - 4


def _table(title: str, rows: Iterable[tuple[str, str]], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    if width < NARROW:
        table.add_column()
        table.add_row(Text(f"\n{title}", "dim"))
        for left, right in rows:
            table.add_row(Text(left, "bold"))
            table.add_row(Padding(Text(right), (0, 0, 0, 2)))
        return table
    table.add_column(no_wrap=True, min_width=20)
    table.add_column()
    table.add_row(Text(f"\n{title}", "dim"), "")
    for left, right in rows:
        table.add_row(Text(left, "bold"), Text(right))
    return table
