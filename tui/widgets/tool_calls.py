"""The tool calls of all requests, newest first, a line each with what came of it."""

from __future__ import annotations

import math

from mlxdeck.telemetry.schema.events import ToolCall
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import RequestChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList


def verdict(call: ToolCall) -> Cell:
    """Whether the call was well-formed, in a mark and a word."""
    if not call.parse_ok:
        return "✗ unreadable", "bad"
    if call.repaired:
        return "± repaired", "warn"
    if call.constrained:
        return "✓ constrained", "good"
    return "✓ ok", "good"


class ToolCallList(VirtualList):
    """The calls of a store."""

    def __init__(self, store: Store, *, id: str | None = None) -> None:
        super().__init__("tool calls", id=id)
        self._store = store
        self.now_ts = math.nan
        """The shown moment. Calls on another day are shown with a date."""
        self.as_of_ts = math.inf
        """Results that came later are not shown."""

    def header(self, width: int) -> list[Cell]:
        """Titles, or a text for an empty list."""
        if not self._store.tool_calls:
            return [("no tool has been called yet", "muted")]
        names, room = _widths(width)
        texts = [f"{'time':<11}", f"{'tool':<{names + 1}}", f"{'arguments':<{room}}"]
        if came := _result_cells(width):
            texts.append(f"  {'result':<{came}}")
        return [(text, "") for text in [*texts, "  format"[: width - sum(map(len, texts))]]]

    def cells(self, item: int, width: int) -> list[Cell]:
        """Time, verdict, name, arguments and, if there is room, the format they came in."""
        row = self._store.tool_calls.numbered(item)
        if row is None:
            # Newer calls have pushed this one out of the history.
            return []
        call = row.call
        mark, kind = verdict(call)
        names, room = _widths(width)
        arguments = call.arguments or (call.parse_error if not call.parse_ok else "(not captured)")
        return [
            (f"{fmt.clock(row.ts, self.now_ts)} ", "muted"),
            (mark[0] + " ", kind),
            (f"{fmt.filled(call.name or mark[2:], names)} ", "" if call.name else kind),
            (fmt.filled(arguments, room), "muted"),
            *self._came(call, width),
            (f"  {call.parser}", "muted"),
        ]

    def _came(self, call: ToolCall, width: int) -> list[Cell]:
        """What the tool gave back, as far as there is room for it."""
        room = _result_cells(width)
        if not room:
            return []
        told = self._store.results.of(call.call_id, self.as_of_ts)
        if told is None:
            return [(" " * (room + 2), "")]
        result = told.result
        took = fmt.UNKNOWN if result.elapsed_s is None else fmt.duration(result.elapsed_s)
        if result.failed:
            text, kind = f"✗ {result.text.strip() or 'failed'}", "bad"
        else:
            text, kind = f"{took:>6} {fmt.size(result.result_bytes):>6}", ""
        return [(f"  {fmt.filled(text, room)}", kind)]

    def chosen(self, item: int) -> None:
        """Ask for the request that made the call."""
        if row := self._store.tool_calls.numbered(item):
            self.post_message(RequestChosen(row.row))


def _widths(width: int) -> tuple[int, int]:
    """Cells for the name and for the arguments; a narrow list leaves the format out."""
    names = 11 if width < 60 else 18
    rest = max(0, width - 11 - names - 1)
    came = _result_cells(width)
    return names, rest if width < 60 else rest - 12 - (came + 2 if came else 0)


def _result_cells(width: int) -> int:
    """Cells for the result; none in a narrow list."""
    return 0 if width < 72 else 14 if width < 110 else 34
