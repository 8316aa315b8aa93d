"""How requests overlap: a line for each lane, their phases along a time axis."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual import events
from textual.binding import Binding
from textual.strip import Strip

from mlxdeck.telemetry.analyze.request_lanes import AgentLane
from mlxdeck.telemetry.analyze.request_spans import RequestSpan
from mlxdeck.telemetry.schema.figures import ERROR, EXACT, OK
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import RedrawAsked, RequestChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.canvas import Canvas, Ink
from mlxdeck.tui.widgets.canvas_widget import COLOURS, CanvasWidget
from mlxdeck.tui.widgets.plot import MARKERS
from mlxdeck.tui.widgets.time_axis import TimeAxis, spread

WIDE, GUTTER, NARROW_GUTTER = 100, 20, 10
"""The gutter holds the names of lanes."""
_WAIT, _READ, _WRITE = ("░", "."), ("▓", "="), ("█", "#")
_EXACT, _ERROR, _RUNS = ("●", "e"), ("✗", "x"), ("▶", ">")
_LEGEND: tuple[tuple[tuple[str, str], Ink, str], ...] = (
    (_WAIT, "warn", "queued"),
    (_READ, "calm", "read"),
    (_WRITE, "good", "written"),
    (_EXACT, "good", "exact"),
    (_ERROR, "bad", "error"),
)


class Timeline(CanvasWidget, can_focus=True):
    """Bars of requests; choosing one opens it."""

    ALLOW_MAXIMIZE = False
    BINDINGS = [
        Binding("left", "look(-1)", "Look back", show=False, tooltip="The request before"),
        Binding("right", "look(1)", "Look on", show=False, tooltip="The request after"),
        Binding("up,k", "lane(-1)", "Lane up", show=False),
        Binding("down,j", "lane(1)", "Lane down", show=False),
        Binding("enter", "choose", "Open", tooltip="See it in full"),
    ]

    def __init__(self, store: Store, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self.tell_title("timeline")
        self.marker = MARKERS[0]
        self.item = -1
        """The request under the cursor; -1 for none."""
        self._lanes: list[AgentLane] = []
        self._times = TimeAxis()
        self._hint = ""
        self._top = 0

    @property
    def n_buckets(self) -> int:
        """Width of the plot in cells."""
        return max(8, self.size.width - self._gutter)

    @property
    def _gutter(self) -> int:
        return GUTTER if self.size.width >= WIDE else NARROW_GUTTER

    @property
    def _n_lines(self) -> int:
        return max(1, self.size.height - 1)

    def show(self, lanes: list[AgentLane], times: TimeAxis, hint: str) -> None:
        """Draw these lanes."""
        self._lanes, self._times, self._hint = lanes, times, hint
        if self._place() is None:
            self.item = -1
        self._settle()

    def set_marker(self, marker: str) -> None:
        """Draw in Unicode or in ASCII."""
        self.marker = marker
        self._settle()

    def on_resize(self) -> None:
        """It has room for other lanes now."""
        self._settle()
        self.post_message(RedrawAsked())

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the cursor opens."""
        offset = event.get_content_offset(self)
        line = self._top + offset.y if offset else -1
        if offset is None or not 0 <= line < len(self._lanes) or offset.y >= self._n_lines:
            return
        column = offset.x - self._gutter
        found = [
            span
            for span in self._lanes[line].spans
            if self._cells(span)[0] <= column <= self._cells(span)[-1]
        ]
        if found and found[-1].row == self.item:
            self.action_choose()
        elif found:
            self.item = found[-1].row
            self._settle()

    def action_look(self, step: int) -> None:
        """To another request of the same lane; at first to the newest of all."""
        place = self._place()
        if place is None:
            spans = [span for lane in self._lanes for span in lane.spans]
            self.item = max(spans, key=lambda span: span.start_ts).row if spans else -1
        else:
            lane, at = place
            spans = self._lanes[lane].spans
            self.item = spans[max(0, min(len(spans) - 1, at + step))].row
        self._settle()

    def action_lane(self, step: int) -> None:
        """To the request of another lane that is nearest in time."""
        place = self._place()
        if place is None:
            self.action_look(0)
            return
        here = self._lanes[place[0]].spans[place[1]]
        lane = self._lanes[max(0, min(len(self._lanes) - 1, place[0] + step))]
        self.item = min(lane.spans, key=lambda span: abs(span.start_ts - here.start_ts)).row
        self._settle()

    def action_choose(self) -> None:
        """Open the request under the cursor."""
        if self.item >= 0:
            self.post_message(RequestChosen(self.item))

    def _place(self) -> tuple[int, int] | None:
        """The lane and the place in it of the request under the cursor."""
        for line, lane in enumerate(self._lanes):
            for at, span in enumerate(lane.spans):
                if span.row == self.item:
                    return line, at
        return None

    def _settle(self) -> None:
        """Keep the cursor in sight, and draw."""
        place, n_lines = self._place(), self._n_lines
        if place is not None:
            self._top = min(max(self._top, place[0] - n_lines + 1), place[0])
        self._top = max(0, min(self._top, len(self._lanes) - n_lines))
        self._tell(place)
        self.redraw()

    def _tell(self, place: tuple[int, int] | None) -> None:
        hidden = len(self._lanes) - self._n_lines
        more = f"  {hidden} more lanes" if hidden > 0 else ""
        if place is None:
            plain = int(self.marker == "ascii")
            told = [f"[{COLOURS[ink]}]{mark[plain]}[/] {text}" for mark, ink, text in _LEGEND]
            self.tell_subtitle("  ".join(told) + more)
            return
        span = self._lanes[place[0]].spans[place[1]]
        parts = (
            ("queued", span.read_ts - span.start_ts),
            ("read", span.write_ts - span.read_ts),
            ("written", span.end_ts - span.write_ts),
        )
        phases = "  ".join(f"{name} {fmt.duration(s)}" for name, s in parts if s > 0)
        self.tell_subtitle(f"[b]{fmt.clock(span.start_ts)}[/b]  {phases}{more}")

    def _column(self, ts: float) -> int:
        return max(0, self._times.column(ts, self.n_buckets))

    def _cells(self, span: RequestSpan) -> list[int]:
        """The columns where it begins, is read, is written, and ends."""
        moments = (span.start_ts, span.read_ts, span.write_ts, span.end_ts)
        return [self._column(ts) for ts in moments]

    def draw(self) -> list[Strip]:
        """All lines."""
        width, n_lines, gutter = self.n_buckets, self._n_lines, self._gutter
        canvas, plain = Canvas(n_lines, width), int(self.marker == "ascii")
        for column in self._times.tick_columns(width):
            canvas.put((slice(None), column), ord(":" if plain else "┊"), "grid")
        shown = self._lanes[self._top : self._top + n_lines]
        for line, lane in enumerate(shown):
            for span in lane.spans:
                self._draw_span(canvas, line, span, plain)
        if not self._lanes:
            canvas.write(n_lines // 2, 0, fmt.one_line(self._hint, width).center(width), "axis")
        labels = [lane.label for lane in shown] + [""] * (n_lines - len(shown))
        edge = "|" if plain else "│"
        lefts = [f"{fmt.filled(label, gutter - 2)} {edge}" for label in labels]
        strips = [self.strip(left, canvas.runs(y)) for y, left in enumerate(lefts)]
        placed = zip(self._times.tick_columns(width), self._times.ticks, strict=True)
        below = spread([(column, tick.text) for column, tick in placed], width)
        return [*strips, self.line([Segment(" " * gutter + below, self.ink("axis"))])]

    def _draw_span(self, canvas: Canvas, line: int, span: RequestSpan, plain: int) -> None:
        start, read, write, end = self._cells(span)
        is_chosen = span.row == self.item
        outcome = int(self._store.column("outcome")[span.row])
        phases: Sequence[tuple[int, int, tuple[str, str], Ink]] = (
            (start, read, _WAIT, "warn"),
            (read, write, _READ, "calm"),
            (write, end + 1, _WRITE, "good"),
        )
        if start == end:
            lengths = (span.read_ts - span.start_ts, span.write_ts - span.read_ts)
            kind = 0 if lengths[0] > (span.end_ts - span.start_ts) / 2 else 1
            kind = kind if lengths[kind] > (span.end_ts - span.start_ts) / 2 else 2
            phases = ((start, start + 1, *phases[kind][2:]),)
        elif span.runs:
            # What it does now reaches up to now.
            last = max(n for n, each in enumerate(phases) if n == 0 or each[0] < end)
            phases = (*phases[:last], (phases[last][0], end + 1, *phases[last][2:]))
        for first, after, mark, ink in phases:
            shown: Ink = "plain" if is_chosen else ink
            canvas.put((line, slice(first, after)), ord(mark[plain]), shown)
        signs: list[tuple[tuple[str, str], Ink]] = []
        if span.runs:
            signs.append((_RUNS, "plain"))
        elif outcome == ERROR:
            signs.append((_ERROR, "bad"))
        elif outcome == OK and int(self._store.column("cache")[span.row]) == EXACT:
            signs.append((_EXACT, "good"))
        for mark, ink in signs:
            canvas.put((line, end), ord(mark[plain]), "plain" if is_chosen else ink)
