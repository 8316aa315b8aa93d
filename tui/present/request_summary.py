"""What happened to a request, in words: for the request screen and for `mlxdeck inspect`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from mlxdeck.telemetry.analyze.request_diff import settings
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.text import format as fmt

PARAMETERS = (
    *("max_tokens", "temperature", "top_p", "top_k", "sampling", "stops at"),
    *("tool_choice", "thinking", "answer"),
)
USUAL = ("?", "model's own", "as usual", "nothing else", "auto", "text")


def table(told: Iterable[tuple[str, str]]) -> Table:
    """Names and their values; foreign texts are plain text, never markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, text in told:
        grid.add_row(Text(name), Text(text))
    return grid


def request(start: t.RequestStart, served: str = "") -> Iterator[tuple[str, str]]:
    """What came in; of one that was refused unread, only what is known."""
    streamed = "streamed" if start.stream else "in one piece"
    names = ", ".join(start.tool_names)
    size = math.nan if start.body_bytes is None else start.body_bytes
    if is_unread(start):
        if start.model:
            yield "model", start.model
        yield "sent", f"{start.dialect}, {fmt.size(size)}; refused unread"
        yield from _agent(start)
        return
    yield "model", f"{start.model}, served by {served}" if served else start.model
    yield "sent", f"{start.dialect}, {streamed}, {fmt.size(size)}"
    yield "parameters", parameters(start)
    yield "messages", fmt.known(start.n_messages)
    yield "tools", f"{fmt.known(start.n_tools)}  {fmt.one_line(names, 400)}"
    yield from _agent(start)
    yield "left out", ", ".join(start.removed) or "nothing"
    if start.history_notes:
        yield "history", ", ".join(start.history_notes)
    if start.regrouped:
        yield "put as", ", ".join(start.regrouped)
    if start.n_untold_results:
        yield "not told", f"{start.n_untold_results} more results of tools"


def _agent(start: t.RequestStart) -> Iterator[tuple[str, str]]:
    if start.agent_id:
        kind = f"{start.agent_name} " if start.agent_name else ""
        task = f", {start.agent_task}" if start.agent_task else ""
        by = f", started by {start.parent_agent_id}" if start.parent_agent_id else ""
        yield "agent", f"{kind}{start.agent_id}{task}{by}"


def is_unread(start: t.RequestStart) -> bool:
    """Whether it was refused before its body was decoded."""
    return start.n_messages is None


def parameters(start: t.RequestStart) -> str:
    """The request's parameters that differ from their defaults."""
    told = dict(settings(start))
    return ", ".join(f"{name} {told[name]}" for name in PARAMETERS if told[name] not in USUAL)


def lookup(found: t.CacheLookup) -> str:
    """The cache's result, and where the prompt differs from the nearest earlier prompt."""
    said = found.result if found.result != "miss" else f"miss ({found.miss_reason})"
    if found.prompt_tokens:
        matched = found.matched_tokens or 0
        share = matched / found.prompt_tokens
        said += f", {matched:,} of {found.prompt_tokens:,} tokens"
        said += f" ({fmt.percent(share)})"
    if found.diverged_at_token >= 0:
        said += f", parted at token {found.diverged_at_token:,} in {found.diverged_block}"
        said += f" ({found.diverged_hash_before} before, {found.diverged_hash} now)"
    elif found.result == "partial" and found.miss_reason:
        said += f", the rest {found.miss_reason}"
    if found.tier:
        said += f", from {found.tier}"
    if found.regrouped:
        said += f", put as {', '.join(found.regrouped)}"
    return said + (f", key {found.key}" if found.key else "")
