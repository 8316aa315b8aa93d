"""One request on standard output, for `mlxdeck inspect`: the request screen without a screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mlxdeck.telemetry.analyze.request_detail import HOW_TO_CAPTURE, RARE
from mlxdeck.telemetry.analyze.request_diff import piece
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.present import request_summary
from mlxdeck.tui.present.call_results import NO_TEXT
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.text.sanitize import plain
from mlxdeck.tui.widgets.tool_calls import reasons, verdict
from mlxdeck.tui.widgets.waterfall import OTHER_SHARE

PIPE_WIDTH = 100
BAR_CELLS = 40


def show(found: dict[str, Any], file: TextIO | None = None) -> None:
    """Print what `detail` has found; in a pipe without colours, 100 cells wide."""
    file = file or sys.stdout
    width = None if file.isatty() else PIPE_WIDTH
    console = Console(file=file, width=width, highlight=False)
    found = plain(found)
    for line in _head(found, console.width):
        console.print(line)
    for title, body in _sections(found):
        console.print(Panel(body, title=title, title_align="left", border_style="dim"))


def _head(found: dict[str, Any], width: int) -> list[Text]:
    """What it was, on as many lines as it needs; no line ends at a sign between two parts."""
    parts = [found["request_id"], fmt.dated(found["start_ts"] or float("nan")), found["outcome"]]
    parts += [found["cache"] and f"cache: {found['cache']}", found["session_id"]]
    lines = [""]
    for part in filter(None, parts):
        longer = f"{lines[-1]}  ·  {part}" if lines[-1] else part
        lines[-1:] = [longer] if not lines[-1] or len(longer) <= width else [lines[-1], part]
    return [Text(line, "bold", no_wrap=True, overflow="ellipsis") for line in lines]


def _sections(found: dict[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    yield "time", _time(found)
    yield "tokens", _tokens(found["tokens"])
    yield "request", _request(found)
    if found["tool_calls"]:
        yield "tool calls", Group(*map(_call, found["tool_calls"]))
    for error in found["errors"]:
        yield "error", Text(f"{error['error_type']} while {error['phase']}: {error['message']}")
    if "messages" in found:
        yield "conversation", Group(*_messages(found))
    else:
        yield "conversation", Text(HOW_TO_CAPTURE, "dim")


def _time(found: dict[str, Any]) -> Table:
    told = found["phases_s"].items()
    phases = {name: seconds or 0.0 for name, seconds in told if seconds is not None}
    phases = {name: seconds for name, seconds in phases.items() if seconds or name not in RARE}
    total_s = max(found["duration_s"] or 0.0, sum(phases.values()), 1e-9)
    rest_s = total_s - sum(phases.values())
    if phases and rest_s > OTHER_SHARE * total_s:
        phases["other"] = rest_s
    table, before_s = Table.grid(padding=(0, 2)), 0.0
    for name, seconds in phases.items():
        start = round(before_s / total_s * BAR_CELLS)
        length = max(1, round(seconds / total_s * BAR_CELLS)) if seconds else 0
        bar = " " * min(start, BAR_CELLS - length) + "█" * length
        share = fmt.percent(seconds / total_s)
        table.add_row(name, f"{bar:<{BAR_CELLS}}", f"{fmt.duration(seconds):>7}", f"{share:>5}")
        before_s += seconds
    total = "not known" if found["duration_s"] is None else fmt.duration(total_s)
    table.add_row("total", "", f"{total:>7}", "")
    if found["ttft_s"]:
        table.add_row("first token", "", f"{fmt.duration(found['ttft_s']):>7}", "")
    return table


def _tokens(told: dict[str, int | None]) -> Text:
    tokens = {name: n or 0 for name, n in told.items()}
    known, out = tokens["cached"], tokens["output"]
    if not tokens["input"] and not out:
        return Text("not known: the prompt was not read", "dim")
    new = tokens["input"] - known
    share = f" ({fmt.percent(known / tokens['input'])} of the prompt)" if tokens["input"] else ""
    return Text(f"{known:,} cached{share}  ·  {new:,} new  ·  {out:,} out")


def _request(found: dict[str, Any]) -> Table:
    told = (
        list(request_summary.request(t.RequestStart(**found["request"])))
        if found["request"]
        else []
    )
    for lookup in found["lookups"]:
        told.append((f"{lookup['cache']} cache", request_summary.lookup(t.CacheLookup(**lookup))))
    return request_summary.table(told)


def _call(call: dict[str, Any]) -> Text:
    told = t.ToolCall(**{name: call[name] for name in t.ToolCall.__struct_fields__ if name in call})
    mark, kind = verdict(told)
    text = Text.assemble((call["name"] or "?", "bold"), f"  {call['parser']}  ")
    text.append(mark, "" if kind == "good" else "bold")
    for why in reasons(told):
        text.append(f"\n{why}", "bold")
    if call["arguments"] is not None:
        text.append("\n" + json.dumps(call["arguments"], indent=2, ensure_ascii=False))
    if result := call["result"]:
        said = result.get("text", f"{fmt.size(result['bytes'])}; {NO_TEXT}")
        text.append(f"\n← {'failed: ' if result['failed'] else ''}{said}")
    return text


def _messages(found: dict[str, Any]) -> Iterator[Text]:
    for message in [*found["messages"], {"role": "answer", "content": found["answer"]}]:
        blocks = message["content"]
        for block in blocks if isinstance(blocks, list) else [blocks]:
            yield Text.assemble((message["role"], "bold"), f"  {piece(block)}")
