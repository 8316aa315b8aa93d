"""Two requests side by side, and the first point where their prompts part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.markup import escape
from textual.screen import Screen
from textual.widgets import Footer, Static

from mlxdeck.telemetry.analyze.raw_lines import content, files_of, lines_of
from mlxdeck.telemetry.analyze.request_detail import PHASES, RARE
from mlxdeck.telemetry.analyze.request_diff import Divergence, diff, parting, settings
from mlxdeck.telemetry.columns.growable_array import comparable
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import FIGURES, Figure
from mlxdeck.tui.present import figure_values
from mlxdeck.tui.screens.request import BETWEEN, NOT_CAPTURED
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.waterfall import PhaseSpan, Waterfall

_TIMES = {figure.title for figure in FIGURES if figure.kind == "seconds"}
_TOLD_ABOVE = ("tools_hash", "max_tokens", "dialect", "n_messages")
_DIFF_STYLES = {"+": "$text-success", "-": "$text-error", "@": "$dim"}
SAME_SHARE, SAME_S = 0.05, 0.001
"""Times that differ by less than one of these are shown as equal."""


class CompareScreen(Screen[None]):
    """A is the one that was marked, B the other."""

    BINDINGS = [
        Binding("escape,c", "app.pop_screen", "Back"),
        Binding("x", "swap", "Swap", tooltip="A becomes B"),
    ]
    DEFAULT_CSS = """
    CompareScreen Horizontal { height: auto; }
    CompareScreen Waterfall { width: 1fr; }
    """

    def __init__(self, context: Context, one: int, other: int) -> None:
        super().__init__()
        self._store = context.store
        self._as_of_ts = context.as_of_ts
        self._rows = (one, other)

    def compose(self) -> ComposeResult:
        """First the common part of the prompts, then where the time went, then every figure."""
        yield Static(id="title")
        with VerticalScroll(id="body"):
            yield Static(id="parting", classes="box")
            with Horizontal():
                yield Waterfall(id="time-a", classes="box")
                yield Waterfall(id="time-b", classes="box")
            yield Static(id="figures", classes="box")
            yield Static(id="settings", classes="box")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        for name, title in (
            ("parting", "where the prompts part"),
            ("time-a", "time of A"),
            ("time-b", "time of B, on the same scale"),
            ("figures", "figures"),
            ("settings", "request"),
        ):
            self.query_one(f"#{name}").border_title = title
        self._show()
        self.query_one("#body").focus()

    def action_swap(self) -> None:
        """Exchange A and B."""
        self._rows = (self._rows[1], self._rows[0])
        self._show()

    def on_resize(self) -> None:
        """The ids share the first line."""
        self._show_title()

    def _show_title(self) -> None:
        ids = [self._store.ids[row] for row in self._rows]
        room = self.size.width - 2 - cell_len(BETWEEN.join(["compare", "A ", "B "]))
        if sum(map(cell_len, ids)) > room:
            ids = [fmt.one_line(each, room // 2) for each in ids]
        named = [f"[b]{name}[/b] {escape(each)}" for name, each in zip("AB", ids, strict=True)]
        self.query_one("#title", Static).update(BETWEEN.join(["compare", *named]))

    def _show(self) -> None:
        store, rows = self._store, self._rows
        self._show_title()
        starts = [_start(lines_of(store, row)) for row in rows]
        self.query_one("#parting", Static).update(self._parting(*starts))
        self._show_times()
        self.query_one("#figures", Static).update(_table(self._figures()))
        told = [dict(settings(start)) for start in starts]
        self.query_one("#settings", Static).update(
            _table((name, told[0][name], told[1][name], "") for name in told[0])
        )

    def _show_times(self) -> None:
        totals_s = np.nan_to_num([self._number("duration_s", row) for row in self._rows]).tolist()
        for name, row, total_s in zip("ab", self._rows, totals_s, strict=True):
            known = {phase: self._number(f"{phase}_s", row) for phase in PHASES}
            spans = [PhaseSpan(phase, np.nan_to_num(seconds)) for phase, seconds in known.items()]
            self.query_one(f"#time-{name}", Waterfall).show(spans, total_s, max(totals_s))

    def _parting(self, one: t.RequestStart, other: t.RequestStart) -> Content:
        found = parting(one, other)
        if not found.place:
            return Content(found.note)
        parts = [
            Content.from_markup("[$dim]first difference:[/] "),
            Content.styled(found.place, "bold"),
            Content(f"  {_before(found)}"),
        ]
        if found.note:
            parts.append(Content(f"\n{found.note}"))
        places = dict.fromkeys(path for row in self._rows for path in files_of(self._store, row))
        lines = diff(content(places, found.hashes), found.hashes)
        if not lines:
            hashes = ", ".join(
                f"{digest} in {name}" if digest else f"none in {name}"
                for digest, name in zip(found.hashes, "AB", strict=True)
            )
            parts.append(Content.styled(f"\n{hashes}\ntext {NOT_CAPTURED}", "$dim"))
        for line in lines[2:]:
            parts.append(Content.styled(f"\n{line}", _DIFF_STYLES.get(line[:1], "")))
        return Content("").join(parts)

    def _number(self, name: str, row: int) -> float:
        """A figure; NaN if it was not known by the moment that is shown."""
        running = math.isnan(self._store.column("end_ts")[row])
        told = not running or name in ("input_tokens", "cached_tokens")
        if not told or self._later(row):
            return math.nan
        return float(comparable(self._store.column(name)[[row]])[0])

    def _later(self, row: int) -> bool:
        """Whether it ended after the moment that is shown."""
        return bool(self._store.later(np.array([row]), self._as_of_ts)[0])

    def _figures(self) -> Iterator[tuple[str, str, str, str]]:
        """Name, A, B, and what changed from the one to the other."""
        for figure in FIGURES:
            if figure.name in _TOLD_ABOVE:
                continue
            if not figure.is_number:
                texts = ["" if self._later(row) else self._text(figure, row) for row in self._rows]
                if any(texts):
                    yield figure.title, texts[0], texts[1], ""
                continue
            one, other = (self._number(figure.name, row) for row in self._rows)
            if figure.title in RARE and not (one > 0 or other > 0):
                continue
            change = f"{other - one:+,.0f}" if abs(other - one) > 0 else ""
            if figure.kind == "seconds":
                change = _longer(one, other)
            told = [figure_values.number(figure, value) for value in (one, other)]
            yield figure.title, told[0], told[1], change

    def _text(self, figure: Figure, row: int) -> str:
        found = figure_values.text(self._store, figure, row)
        return "" if found == fmt.UNKNOWN else found


def _longer(one_s: float, other_s: float) -> str:
    """By how much time B differs from A, and how many times as long it took."""
    # Of the values as they are shown, so that the difference is theirs.
    one_s, other_s = fmt.shown_s(one_s), fmt.shown_s(other_s)
    change_s = other_s - one_s
    if math.isnan(change_s) or abs(change_s) < max(SAME_S, SAME_SHARE * max(one_s, other_s)):
        return ""
    sign = "+" if change_s > 0 else "-"
    times = f"  {other_s / one_s:.{1 if other_s > one_s else 2}f}×" if one_s and other_s else ""
    return f"{sign}{fmt.duration(abs(change_s))}{times}"


def _before(found: Divergence) -> str:
    if found.place == "system":
        return "nothing before it is shared"
    if found.place == "tools":
        return "the system prompt is the same"
    if not found.n_equal:
        return "system prompt and tools are the same"
    messages = "1 message" if found.n_equal == 1 else f"{found.n_equal} messages"
    return f"system prompt, tools and {messages} are the same"


def _start(lines: list[bytes]) -> t.RequestStart:
    decoded = (codec.decode(line).attrs for line in lines)
    return next((each for each in decoded if isinstance(each, t.RequestStart)), t.RequestStart())


def _table(rows: Iterable[tuple[str, str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=12)
    table.add_column(width=1)
    for _ in range(3):
        table.add_column(min_width=14)
    table.add_row("", "", "[b]A[/b]", "[b]B[/b]", "")
    for name, one, other, change in rows:
        # A sign and not only a weight says that they differ; times never are quite the same.
        differs = bool(change) or (one != other and name not in _TIMES)
        style = "bold" if differs else ""
        mark = "≠" if differs else ""
        table.add_row(Text(name), mark, Text(one, style), Text(other, style), Text(change, style))
    return table
