"""Two requests side by side, and the first point where their prompts part."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from mlxdeck.telemetry import events as t
from mlxdeck.telemetry.batch import CACHES, OUTCOMES
from mlxdeck.telemetry.compare import Parting, diff, parting, settings
from mlxdeck.telemetry.lines import content, lines_of
from mlxdeck.telemetry.store import Store
from mlxdeck.tui import format as fmt
from mlxdeck.tui.screens.request import NOT_CAPTURED
from mlxdeck.tui.widgets.waterfall import PHASES

_SECONDS = (*(f"{phase}_s" for phase in PHASES), "ttft_s", "duration_s")
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")
_LABELS = {
    "ttft_s": "first token",
    "duration_s": "total",
    "input_tokens": "prompt",
    "cached_tokens": "of it cached",
    "output_tokens": "answer",
}


class CompareScreen(Screen[None]):
    """A is the one that was marked, B the other."""

    BINDINGS = [
        Binding("escape,c", "app.pop_screen", "Back"),
        Binding("x", "swap", "Swap", tooltip="A becomes B"),
    ]

    def __init__(self, store: Store, one: int, other: int) -> None:
        super().__init__()
        self._store = store
        self._rows = (one, other)

    def compose(self) -> ComposeResult:
        """From figures to text."""
        yield Static(id="title")
        with VerticalScroll(id="body"):
            yield Static(id="parting", classes="box")
            yield Static(id="settings", classes="box")
            yield Static(id="times", classes="box")
            yield Static(id="tokens2", classes="box")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        for name, title in (
            ("parting", "where the prompts part"),
            ("settings", "request"),
            ("times", "time"),
            ("tokens2", "tokens"),
        ):
            self.query_one(f"#{name}").border_title = title
        self._show()
        self.query_one("#body").focus()

    def action_swap(self) -> None:
        """The other way round."""
        self._rows = (self._rows[1], self._rows[0])
        self._show()

    def _show(self) -> None:
        store, rows = self._store, self._rows
        ids = [f"[b]{name}[/b] {store.ids[row]}" for name, row in zip("AB", rows, strict=True)]
        self.query_one("#title", Static).update("  ·  ".join(["compare", *ids]))
        starts = [_start(lines_of(store, row)) for row in rows]
        self.query_one("#parting", Static).update(self._parting(*starts))
        told = [dict(settings(start)) for start in starts]
        self.query_one("#settings", Static).update(
            _side_by_side((name, told[0][name], told[1][name]) for name in told[0])
        )
        self.query_one("#times", Static).update(_side_by_side(self._figures(_SECONDS)))
        self.query_one("#tokens2", Static).update(_side_by_side(self._figures(_TOKENS)))

    def _parting(self, one: t.RequestStart, other: t.RequestStart) -> Text:
        found = parting(one, other)
        if not found.place:
            return Text(found.note)
        text = Text.assemble(
            ("first difference: ", "dim"), (found.place, "bold"), f"  {_before(found)}"
        )
        if found.note:
            text.append(f"\n{found.note}")
        places = {span.path for row in self._rows for span in self._store.spans(row)}
        lines = diff(content(sorted(places), found.hashes), found.hashes)
        if not lines:
            text.append(f"\n{found.hashes[0] or '–'} in A, {found.hashes[1] or '–'} in B", "dim")
            text.append(f"\ntext {NOT_CAPTURED}", "dim")
        for line in lines[2:]:
            style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
            text.append(f"\n{line}", style)
        return text

    def _figures(self, names: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        for name in names:
            values = [float(self._store.column(name)[row]) for row in self._rows]
            show = fmt.duration if name.endswith("_s") else lambda value: f"{value:,.0f}"
            yield _LABELS.get(name, name.removesuffix("_s")), show(values[0]), show(values[1])
        if names is _TOKENS:
            caches = [CACHES[int(self._store.column("cache")[row])] for row in self._rows]
            ends = [OUTCOMES[int(self._store.column("outcome")[row])] for row in self._rows]
            yield "cache", caches[0], caches[1]
            yield "outcome", ends[0], ends[1]


def _before(found: Parting) -> str:
    if found.place == "system":
        return "nothing before it is shared"
    if found.place == "tools":
        return "the system prompt is the same"
    if not found.n_equal:
        return "system prompt and tools are the same"
    return f"system prompt, tools and {found.n_equal} messages are the same"


def _start(lines: list[bytes]) -> t.RequestStart:
    decoded = (t.decode(line).attrs for line in lines)
    return next((each for each in decoded if isinstance(each, t.RequestStart)), t.RequestStart())


def _side_by_side(rows: Iterator[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=12)
    table.add_column(width=1)
    table.add_column(min_width=16)
    table.add_column(min_width=16)
    table.add_row("", "", "[b]A[/b]", "[b]B[/b]")
    for name, one, other in rows:
        # A sign and not only a colour says that they differ.
        differs = one != other
        style = "bold" if differs else ""
        table.add_row(name, "≠" if differs else "", Text(one, style), Text(other, style))
    return table
