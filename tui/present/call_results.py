"""What came of tool calls, in words: on a request's page, and in the list of calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mlxdeck.telemetry.analyze.tool_results import Result
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.tool_calls import reasons, verdict

MAX_RESULT = 1_500
"""More characters of a tool's result are not drawn."""
NO_ARGUMENTS = "not captured: --capture off leaves arguments out"
NO_RESULT = "no result yet: the client tells it in the session's next request"
NO_TEXT = "the text is kept with --capture full"


def calls_table(calls: Sequence[t.ToolCall], came: Mapping[str, Result]) -> Table:
    """Each call with its arguments, and below it the tool's result."""
    table = Table.grid(padding=(0, 2))
    for call in calls:
        mark, _ = verdict(call)
        arguments = call.arguments or (NO_ARGUMENTS if call.parse_ok else call.parse_error)
        about = Text.assemble(f"{mark}\n", (call.parser, "dim"))
        said = Text(_pretty(arguments))
        if call.parse_ok:
            said.append("".join(f"\n{why}" for why in reasons(call)), "dim")
        table.add_row(about, Text(call.name or "?", "bold"), said)
        if call.parse_ok:
            table.add_row("", *_result(came.get(call.call_id)))
    return table


def _result(result: Result | None) -> tuple[Text, Text]:
    if result is None:
        return Text("← ", "dim", justify="right"), Text(NO_RESULT, "dim")
    mark = Text("✗ failed" if result.failed else "←", "bold" if result.failed else "dim")
    mark.justify = "right"
    shown = result.text[:MAX_RESULT].rstrip()
    about = f"{fmt.size(result.n_bytes)} after {fmt.duration(result.elapsed_s)}"
    if not result.text and not result.is_whole:
        about += f"; {NO_TEXT}"
    elif len(shown) < len(result.text.rstrip()):
        about += f"; {len(result.text) - MAX_RESULT:,} more characters, in the next request"
    elif not result.is_whole:
        about += f"; this is its beginning, {NO_TEXT}"
    return mark, Text.assemble(shown, "\n" if shown else "", (about, "dim"))


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except ValueError:
        return arguments
