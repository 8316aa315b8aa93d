"""The tool calls of all requests, newest first, a line each."""

from __future__ import annotations

from mlxdeck.telemetry.events import ToolCall
from mlxdeck.telemetry.store import Store
from mlxdeck.tui import format as fmt
from mlxdeck.tui.messages import RequestChosen
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

    def header(self, width: int) -> list[Cell]:
        """Titles, or what is not there yet."""
        if not self._store.tool_calls:
            return [("no tool has been called yet", "muted")]
        return [(f"{'time':<9}{'tool':<13}{'arguments':<{max(0, width - 36)}}{'format':>12}", "")]

    def cells(self, item: int, width: int) -> list[Cell]:
        """Time, verdict, name, arguments and format."""
        ts, _, call = self._store.tool_calls[item]
        mark, kind = verdict(call)
        room = max(0, width - 36)
        arguments = call.arguments or (call.parse_error if not call.parse_ok else "(not captured)")
        return [
            (f"{fmt.clock(ts)} ", "muted"),
            (mark[0] + " ", kind),
            (f"{fmt.one_line(call.name or '?', 11):<11} ", ""),
            (f"{fmt.one_line(arguments, room):<{room}} ", "muted"),
            (f"{fmt.one_line(call.parser, 11):>11}", "muted"),
        ]

    def chosen(self, item: int) -> None:
        """Ask for the request that made the call."""
        self.post_message(RequestChosen(self._store.tool_calls[item].row))
