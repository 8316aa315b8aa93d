"""Tool calls are counted alike wherever they are counted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlxdeck.telemetry.analyze.report import Period, report
from mlxdeck.telemetry.analyze.usage import ToolUses
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.widgets.tool_calls import ToolCallList
from mlxdeck.tui.widgets.tool_table import ToolTable
from tests.streams import START_TS, Made, Stream
from tests.tui.running import running

REQUESTS = (Made(40, 2.0, tool="Read"), Made(50, 2.0, tool="Bash"), Made(60, 2.0, tool="Read"))


def _more(stream: Stream) -> list[bytes]:
    """Calls of the second request: an unreadable one, a repaired one, two that have results."""
    owner, late = "req_7_0001", "req_7_0002"
    schemas = t.CacheLookup(cache="prefix", tool_tokens=(300, 1200))
    return [
        stream.line(t.ToolCall(parse_ok=False, arguments_bytes=7), 49.0, owner),
        stream.line(t.ToolCall(name="Bash", repaired=True, arguments_bytes=2000), 49.1, owner),
        stream.line(t.ToolCall(name="Bash", call_id="a", arguments_bytes=1000), 49.2, owner),
        stream.line(t.ToolCall(name="Edit", call_id="b"), 49.3, owner),
        stream.line(t.CallResult(name="Bash", call_id="a", failed=True, elapsed_s=3.5), 58.0, late),
        stream.line(t.CallResult(name="Edit", call_id="b", elapsed_s=0.5), 58.0, late),
        stream.line(t.RequestStart(tool_names=("Read", "Bash"), tools_hash="x"), 58.0, late),
        stream.line(schemas, 58.1, late),
    ]


async def test_calls_are_counted_alike_everywhere(tmp_path: Path) -> None:
    """In the tiles, the table of tools, the list of calls, and the report; also as of a moment."""
    async with running(tmp_path, REQUESTS, size=(230, 50), extra=_more(Stream())) as run:
        await run.press(str(_key()))
        table, store = run.app.screen.query_one(ToolTable), run.app.store
        told = {name: (uses, tokens) for name, uses, tokens in table._tools.values()}
        assert {name: uses.n for name, (uses, _) in told.items()} == {
            "Read": 2, "Bash": 3, "Edit": 1, "(unreadable)": 1,
        }  # fmt: skip
        assert run.figure("calls") == "7" and run.figure("unreadable") == "1 !"
        assert run.figure("failed") == "1/2 !"
        assert run.app.screen.query_one(ToolCallList).n_items == 7
        found = report(store, Period(START_TS, START_TS + 100))
        assert found.n_tool_calls == 7
        # As texts, for unknown figures are equal there.
        assert {name or "(unreadable)": str(uses) for name, uses in found.tools.items()} == {
            name: str(uses) for name, (uses, _) in told.items()
        }
        assert {name: tokens for name, (_, tokens) in told.items() if tokens == tokens} == {
            "Read": 300, "Bash": 1200,
        }  # fmt: skip
        bash = next(line for line in run.text.splitlines() if "Bash  " in line and "3.50s" in line)
        assert "1±" in bash and "1✗" in bash and "1.2k" in bash
        # Most calls first; the next order is of unreadable ones.
        table.focus()
        await run.press("home")
        assert table._tools[table.item][0] == "Bash"
        await run.press("o")
        assert table._tools[table.item][0] == "(unreadable)"
        await run.press("enter")
        assert run.table.n_items == 1 and run.figure("calls") == "5"


async def test_calls_that_are_not_valid_have_a_column_where_there_is_room(tmp_path: Path) -> None:
    """On a panel of its own."""
    call = Stream().line(t.ToolCall(name="Odd", schema_valid=False), 49.0, "req_7_0001")
    async with running(tmp_path, REQUESTS, size=(160, 40), extra=[call]) as run:
        await run.press(str(_key()))
        run.app.screen.query_one(ToolTable).focus()
        await run.press("m")
        lines = run.text.splitlines()
        (head,) = (line for line in lines if "unread." in line)
        (odd,) = (line for line in lines if "Odd" in line)
        end = head.index("invalid") + len("invalid")
        assert odd[end - 1 : end + 1] == "1✗"


def _key() -> int:
    from mlxdeck.tui.panels.registry import PANEL_IDS

    return PANEL_IDS.index("tools") + 1


@pytest.mark.parametrize("width", [18, 24, 33, 60, 120])
def test_columns_of_tools_go_by_importance(width: int) -> None:
    """No line is longer than the table."""
    table = ToolTable()
    assert len(table.header(width)[0][0]) <= width
    uses = ToolUses(12_345, 999, 1, 12, 3, 5, 4, math.nan, 123_456)
    table._tools = {0: ("mcp__a_long_server_name__and_a_tool", uses, 1234.0)}
    for cells in (table.header(width), table.cells(0, width)):
        assert sum(len(text) for text, _ in cells) <= width
    titles = " ".join(text for text, _ in table.header(width))
    assert "calls" in titles and ("failed" in titles) == (width > 24)
