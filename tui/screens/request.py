"""One request in full: where its time and its tokens went, and every event of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.highlight import highlight
from textual.markup import escape
from textual.screen import Screen
from textual.widgets import Collapsible, Footer, Static

from mlxdeck.telemetry.analyze.raw_lines import files_of, lines_of
from mlxdeck.telemetry.analyze.request_detail import PHASES, NotCaptured, curl, detail
from mlxdeck.telemetry.analyze.running_progress import (
    RunningProgress,
    phases_s,
    running_progress,
)
from mlxdeck.telemetry.analyze.tool_results import results
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import CACHES, ERROR, LOST, OPEN, OUTCOMES
from mlxdeck.telemetry.store.time_index import Rows
from mlxdeck.tui.messages import RequestChosen
from mlxdeck.tui.outputs.clipboard import copy
from mlxdeck.tui.present import figure_values, request_summary
from mlxdeck.tui.present.call_results import calls_table
from mlxdeck.tui.state.context import Context
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.conversation import NOT_CAPTURED as TEXT_NOT_CAPTURED
from mlxdeck.tui.widgets.conversation import ConversationView
from mlxdeck.tui.widgets.live_progress import LiveProgress
from mlxdeck.tui.widgets.request_table import tokens_per_s
from mlxdeck.tui.widgets.waterfall import PhaseSpan, TokenBar, Waterfall

NOT_CAPTURED = "not captured: start the server with --capture full to keep it"

TEXT_REFUSED = "The request was refused before its text was kept."
TEXT_MISSING = "There is no text of it in the recording."
HOW_TO_SEE = "to see the text as it is written: start the server with --capture full"

BETWEEN = "  ·  "
NOT_ENDED = (OUTCOMES[OPEN], OUTCOMES[LOST])
MAX_REPORTS = 3
"""More reports of progress are not drawn among the raw events."""

_MARKS = {"open": "◌", "ok": "✓", "error": "✗", "cancelled": "–", "lost": "–"}

_Attrs = TypeVar("_Attrs", bound=t.Attrs)


class RequestScreen(Screen[None]):
    """Shows a row of the store; `n` and `p` go to its neighbours."""

    BINDINGS = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("n,right", "step(1)", "Newer", tooltip="The one above it in the list"),
        Binding("p,left", "step(-1)", "Older", tooltip="The one below it in the list"),
        Binding("s", "same_session(-1)", "Older in session"),
        Binding("S", "same_session(1)", "Newer in session", show=False),
        Binding("c", "compare_before", "Compare", tooltip="With the session's request before it"),
        Binding("y", "copy_json", "Copy", tooltip="Copy the request as JSON"),
        Binding("u", "copy_curl", "curl", show=False, tooltip="Copy the request as a curl command"),
        Binding("o", "fold", "Fold", show=False, tooltip="Open or close the conversation's blocks"),
    ]

    def __init__(self, context: Context, row: int) -> None:
        super().__init__()
        self._ctx = context
        self._store = context.store
        self._row = row
        self._shown: object = None
        self._drawn: object = None
        self._lines: list[tuple[bytes, t.Attrs | None]] = []

    def compose(self) -> ComposeResult:
        """From the overview to the raw lines."""
        yield Static(id="title")
        with VerticalScroll(id="body"):
            yield LiveProgress(id="progress")
            yield Waterfall(id="waterfall")
            yield TokenBar(id="tokens")
            yield Static(id="facts")
            yield Static(id="calls")
            yield ConversationView(id="conversation")
            with Collapsible(title="raw events", id="raw", collapsed=False):
                yield Static(id="lines")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        body = self.query_one("#body")
        for name, title in (
            ("waterfall", "time"),
            ("tokens", "tokens"),
            ("facts", "request"),
            ("calls", "tool calls"),
            ("conversation", "conversation"),
        ):
            body.query_one(f"#{name}").border_title = title
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self._show()

    @property
    def row(self) -> int:
        """The row that is shown."""
        return self._row

    def action_step(self, step: int) -> None:
        """The next or the previous request of those that are listed."""
        self._go(self._beside(self._listed, step))

    def action_same_session(self, step: int) -> None:
        """The next or the previous request of the same session."""
        self._go(self._in_session(step))

    def action_compare_before(self) -> None:
        """What changed since the request before it in the same session."""
        before = self._in_session(-1)
        if before < 0:
            self.notify("it is the first one of its session", severity="warning")
        else:
            self.post_message(RequestChosen(self._row, against=before))

    def _in_session(self, step: int) -> int:
        rows = self._by_time
        sessions = self._store.column("session")
        return self._beside(rows[sessions[rows] == sessions[self._row]], step)

    @property
    def _listed(self) -> Rows:
        """The rows that the dashboard lists, if this request is among them; else all rows."""
        rows = self._ctx.rows
        return rows if self._row in rows else self._by_time

    @property
    def _by_time(self) -> Rows:
        """All requests that had begun by the moment that is shown."""
        return self._store.by_start.between(-math.inf, self._ctx.as_of_ts)

    @property
    def _outcome(self) -> str:
        """How it had ended by then, if it had."""
        later = self._store.later(np.array([self._row]), self._ctx.as_of_ts)[0]
        return OUTCOMES[OPEN if later else int(self._store.column("outcome")[self._row])]

    def _beside(self, rows: Rows, step: int) -> int:
        """The row `step` places further in `rows`, in order of time; -1 if there is none."""
        place = int(np.flatnonzero(rows == self._row)[0]) + step
        return int(rows[place]) if 0 <= place < len(rows) else -1

    def action_copy_json(self) -> None:
        """The request as JSON, on the clipboard."""
        self._copied("the request as JSON", json.dumps(detail(self._store, self._row), indent=2))

    def action_copy_curl(self) -> None:
        """The request as a command that sends it again, on the clipboard."""
        try:
            self._copied("a curl command", curl(detail(self._store, self._row)))
        except NotCaptured as error:
            self.notify(str(error), severity="warning", markup=False)

    def action_fold(self) -> None:
        """Open or close all blocks of the conversation."""
        self.query_one(ConversationView).fold()

    def _copied(self, what: str, text: str) -> None:
        by = copy(self.app, text)
        self.notify(f"{what}, {len(text):,} characters, by {by}", title="copied", timeout=3)

    @property
    def _place(self) -> str:
        """Which request it is of those that are listed, counted from the last line."""
        rows, listing = self._listed, self._ctx.listing
        place = int(np.flatnonzero(rows == self._row)[0]) + 1
        by = f" by {listing.order.title}" if listing.order.column else ""
        match = " that match" if listing.text and len(rows) < len(self._by_time) else ""
        return f"{place:,} of {len(rows):,}{match}{by}"

    def _go(self, row: int) -> None:
        if 0 <= row < self._store.n:
            self._row = row
            self._show()
        else:
            self.app.bell()

    def refresh_row(self) -> None:
        """Draw what is new: of a request that only has come further, that alone."""
        if not self.is_mounted or not self.query(LiveProgress):
            # Not there yet, or gone already, as the application ends.
            return
        if self._shown != self._version:
            self._read()
            if self._drawn != self._settled:
                self._show()
                return
        if self._outcome == OUTCOMES[OPEN]:
            self._show_progress()

    @property
    def _version(self) -> object:
        running = self._outcome == OUTCOMES[OPEN]
        # The lines of a recording are all there, and become known as its moment moves on.
        known_ts = self._ctx.as_of_ts if running else math.inf
        return self._store.spans(self._row), self._outcome, known_ts

    @property
    def _settled(self) -> object:
        """While it is the same, nothing is new but reports."""
        n_others = sum(not isinstance(attrs, t.RequestProgress) for _, attrs in self._lines)
        return self._row, self._outcome, n_others

    def _read(self) -> None:
        self._shown = self._version
        read = [(raw, codec.decode(raw)) for raw in lines_of(self._store, self._row)]
        # Lines later than the shown moment are not known yet.
        read = [(raw, line) for raw, line in read if line.ts <= self._ctx.as_of_ts]
        self._lines = [(raw, line.attrs) for raw, line in read]

    def _show_progress(self) -> None:
        """How far it is, or was when its server was lost, and where its time went so far."""
        of, text = None, ""
        lines = [attrs for _, attrs in self._lines]
        if self._outcome in NOT_ENDED:
            of = running_progress(self._store, self._row, self._now_ts)
            reports = [attrs for attrs in lines if isinstance(attrs, t.RequestProgress)]
            text = reports[-1].text if reports else ""
            if of is not None and of.state == "decode" and not text and not self._is_captured:
                text = HOW_TO_SEE
        live = self.query_one(LiveProgress)
        live.border_title = "now" if self._outcome == OUTCOMES[OPEN] else "last seen"
        live.show(of, text)
        self._show_time(lines, of)

    @property
    def _now_ts(self) -> float:
        if self._outcome == OUTCOMES[LOST]:
            return float(self._store.column("end_ts")[self._row])
        return min(self._ctx.as_of_ts, self._ctx.clock.now)

    @property
    def _is_captured(self) -> bool:
        """Whether its server keeps texts."""
        started_ts = float(self._store.column("start_ts")[self._row])
        header = self._store.servers.header_at(started_ts)
        return header is not None and header.capture == "full"

    def _show(self) -> None:
        self._read()
        self._drawn = self._settled
        lines = [attrs for _, attrs in self._lines]
        self._show_title()
        self._show_progress()
        self.query_one("#facts", Static).update(self._facts(lines))
        missing = TEXT_NOT_CAPTURED
        if self._is_captured:
            missing = TEXT_REFUSED if self._outcome == OUTCOMES[ERROR] else TEXT_MISSING
        self.query_one(ConversationView).show(lines, files_of(self._store, self._row), missing)
        calls = [line for line in lines if isinstance(line, t.ToolCall)]
        self.query_one("#calls").display = bool(calls)
        came = results(self._store, self._row, calls, self._ctx.as_of_ts)
        self.query_one("#calls", Static).update(calls_table(calls, came))
        pretty = "\n".join(_pretty(self._lines))
        shown = highlight(pretty, language="json") if pretty else "the file is gone"
        self.query_one("#lines", Static).update(shown)

    def _show_title(self) -> None:
        """What it is; where there is little room, how it ended goes before where it stands."""
        store, row, outcome = self._store, self._row, self._outcome
        told = fmt.dated if fmt.days_apart(store.first_ts, self._ctx.clock.now) else fmt.clock
        name, started = store.ids[row], told(float(store.column("start_ts")[row]))
        parts = [name, self._place, started, f"{_MARKS[outcome]} {outcome}"]
        if (cache := CACHES[int(store.column("cache")[row])]) and outcome != "open":
            parts.append(f"{cache} hit" if cache != "miss" else "cache miss")
        if session := store.text("session", row):
            parts.append(f"session {session[:8]}")
        choices = [parts, parts[:-1], [name, *parts[2:4]], [*parts[2:4], name], [parts[3], name]]
        texts, room = [BETWEEN.join(each) for each in choices], self.size.width - 2
        text = next((each for each in texts if len(each) <= room), texts[-1])
        shown = escape(text).replace(escape(name), f"[b]{escape(name)}[/b]", 1)
        self.query_one("#title", Static).update(shown)

    def _show_time(self, lines: list[t.Attrs | None], of: RunningProgress | None) -> None:
        if self._outcome in NOT_ENDED:
            self._show_time_so_far(lines, of)
            return

        def told(name: str) -> float:
            """A figure of the request's end; 0 for an unknown one."""
            return float(summable(self._store.column(name)[[self._row]])[0])

        # A recording of another program knows no phases.
        spans = [
            PhaseSpan(name, float(self._store.column(f"{name}_s")[self._row])) for name in PHASES
        ]
        total_s = told("duration_s") or sum(span.known_s for span in spans)
        self.query_one(Waterfall).show(spans, total_s)
        total, cached, out = (
            int(told(name)) for name in ("input_tokens", "cached_tokens", "output_tokens")
        )
        self.query_one(TokenBar).show(cached, total - cached, out)

    def _show_time_so_far(self, lines: list[t.Attrs | None], of: RunningProgress | None) -> None:
        """Of a running request: what is over, and what grows."""
        age_s = max(0.0, self._now_ts - float(self._store.column("start_ts")[self._row]))
        first = _first(lines, t.FirstToken)
        known = phases_s(of, first, age_s)
        spans = [PhaseSpan(name, known.get(name, math.nan)) for name in PHASES]
        self.query_one(Waterfall).show(spans, age_s if known else math.nan)
        prompt = [line for line in lines if isinstance(line, t.CacheLookup) and line.prompt_tokens]
        total, cached = (of.prompt_tokens, of.cached_tokens) if of else (0, 0)
        if prompt:
            total, cached = prompt[-1].prompt_tokens or 0, prompt[-1].matched_tokens or 0
        total, cached = max(0, total), max(0, cached)
        self.query_one(TokenBar).show(cached, total - cached, max(0, of.output_tokens if of else 0))

    def _facts(self, lines: list[t.Attrs | None]) -> Table:
        store, row = self._store, self._row
        start, end = _first(lines, t.RequestStart), _first(lines, t.RequestEnd)
        error = _first(lines, t.Error)
        first = _first(lines, t.FirstToken)
        # Who refuses a request doesn't serve it.
        served = end.model if end and end.output_tokens is not None else ""
        told = list(request_summary.request(start, served)) if start else []
        if start and not request_summary.is_unread(start):
            unsaid = "no text of the user's" if self._is_captured else NOT_CAPTURED
            told.append(("asked", start.last_user_text or unsaid))
        for lookup in (line for line in lines if isinstance(line, t.CacheLookup)):
            told.append((f"{lookup.cache} cache", request_summary.lookup(lookup)))
        ttft_s = end.ttft_s if end and end.ttft_s else first.ttft_s if first else math.nan
        if not math.isnan(ttft_s):
            told.append(("first token", fmt.duration(ttft_s)))
        if end and not math.isnan(tokens_per_s(store, row)):
            told.append(("speed", f"{fmt.rate(tokens_per_s(store, row))} tokens/s"))
        if end and end.finish_reasons:
            why = " (it repeated itself)" if end.ended_by == "loop" else ""
            told.append(("ended by", ", ".join(end.finish_reasons) + why))
        if error:
            told.append(("error", f"{error.error_type} while {error.phase}: {error.message}"))
        if end:
            told += figure_values.others(store, row)
        return request_summary.table(told)


def _first(lines: list[t.Attrs | None], kind: type[_Attrs]) -> _Attrs | None:
    return next((line for line in lines if isinstance(line, kind)), None)


def _indented(raw: bytes) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2)
    except (ValueError, RecursionError):
        # Nothing that is read of it, but too deep for Python, or a number of too many digits.
        return raw.decode(errors="replace").rstrip()


def _pretty(read: list[tuple[bytes, t.Attrs | None]]) -> Iterator[str]:
    """Lines as they are written; of many reports of progress, the last ones."""
    reports = [n for n, (_, attrs) in enumerate(read) if isinstance(attrs, t.RequestProgress)]
    left_out = set(reports[:-MAX_REPORTS])
    for n, (raw, _) in enumerate(read):
        if n not in left_out:
            yield _indented(raw)
        elif n == reports[0]:
            yield f"// {fmt.counted(len(left_out), 'earlier report')} of progress"
