"""The tool calls of all requests, newest first, a line each with what came of it."""

from __future__ import annotations

import math
import re

from mlxdeck.telemetry.schema.events import CallResult, ToolCall
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.messages import RequestChosen
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.virtual_list import Cell, VirtualList

WITH_RESULT, WITH_FORMAT = 56, 84
"""In so many cells a list has these columns too."""
WHOLE = 40
"""In so many cells arguments are shown as they were written."""
_FIRST_TEXT = re.compile(r'\{\s*"[^"\\]*":\s*"((?:[^"\\]|\\.)*)')
_TAG = re.compile(r"^\s*<[\w-]{1,40}>")


def verdict(call: ToolCall) -> Cell:
    """Whether the call was well-formed, in a mark and a word."""
    if not call.parse_ok:
        return "✗ unreadable", "bad"
    if call.schema_valid is False:
        return "✗ not valid", "bad"
    if call.repaired:
        return "± repaired", "warn"
    if call.unconstrained:
        return "▲ unconstrained", "warn"
    if call.constrained:
        return "✓ constrained", "good"
    return "✓ ok", "good"


def reasons(call: ToolCall) -> list[str]:
    """Why it is not as it should be, as far as that was told."""
    why = {"not readable": call.parse_error, "unconstrained": call.unconstrained}
    return [f"{what}: {text}" for what, text in why.items() if text]


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
        if not self.n_items:
            text = "no tool call matches" if self.scope else "no tool has been called yet"
            return [(fmt.one_line(text, width), "muted")]
        names, room, came = _widths(width)
        title = "arguments" if room > len("arguments") else "args"
        cells = {"time": 11, "tool": names + 1, title: room}
        if came:
            cells |= {"": 2, "result": came}
        titles = "".join(f"{fmt.one_line(title, n):<{n}}" for title, n in cells.items())
        return [(titles + ("  format" if width >= WITH_FORMAT else ""), "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """Time, verdict, name, arguments and, if there is room, the format they came in."""
        row = self._store.tool_calls.numbered(item)
        if row is None:
            # Newer calls have pushed this one out of the history.
            return []
        call = row.call
        mark, kind = verdict(call)
        names, room, came = _widths(width)
        told = self._store.results.of(call.call_id, self.as_of_ts)
        result = told.result if told else None
        text = call.arguments or (call.parse_error if not call.parse_ok else "(not captured)")
        said, how = _in_words(result) if result else ("" if kind == "good" else mark, kind)
        if result and result.failed:
            mark, kind = "✗ failed", "bad"
        cells = [
            (f"{fmt.clock(row.ts, self.now_ts)} ", "muted"),
            (mark[0] + " ", kind),
            (f"{fmt.filled(call.name or mark[2:], names)} ", "" if call.name else kind),
        ]
        if not came and how:
            # What went wrong says more than what was asked.
            return [*cells, (fmt.filled(said, room), how)]
        cells.append((fmt.filled(_brief(text, room), room), "muted"))
        if came:
            cells.append((f"  {fmt.filled(said, came)}", how))
        return [*cells, (f"  {call.parser}", "muted")] if width >= WITH_FORMAT else cells

    def chosen(self, item: int) -> None:
        """Ask for the request that made the call."""
        if row := self._store.tool_calls.numbered(item):
            self.post_message(RequestChosen(row.row))


def _brief(arguments: str, room: int) -> str:
    """Where there is little room, the first argument alone; of a path its end, which tells more."""
    found = _FIRST_TEXT.match(arguments)
    if room >= WHOLE or not found:
        return arguments
    value = found[1].replace('\\"', '"')
    is_long_path = value.startswith("/") and " " not in value and len(value) > room
    return f"…{value[1 - room :]}" if is_long_path and room > 1 else value


def _in_words(result: CallResult) -> Cell:
    """Time and size of a result; of a failure, what it says."""
    if result.failed:
        # Claude Code puts its own errors into tags.
        return f"✗ {_TAG.sub('', result.text).strip() or 'failed'}", "bad"
    took = fmt.UNKNOWN if result.elapsed_s is None else fmt.duration(result.elapsed_s)
    return f"{took:>6} {fmt.size(result.result_bytes):>6}", ""


def _widths(width: int) -> tuple[int, int, int]:
    """Cells for the name, for the arguments, and for the result, which a narrow list lacks."""
    names = 11 if width < WITH_RESULT else 14 if width < WITH_FORMAT else 18
    came = 0 if width < WITH_RESULT else 14 if width < 130 else 34
    rest = width - 11 - names - 1 - (came + 2 if came else 0) - (12 if width >= WITH_FORMAT else 0)
    return names, max(0, rest), came
