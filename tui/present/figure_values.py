"""The figures of a request as texts, by the table that says what there is."""

from __future__ import annotations

from collections.abc import Iterator

from mlxdeck.telemetry.columns.growable_array import comparable
from mlxdeck.telemetry.schema.figures import FIGURES, Figure
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.text import format as fmt

TOLD_ELSEWHERE = {
    *(
        "duration_s",
        "ttft_s",
        "tokenize_s",
        "cache_s",
        "queue_s",
        "load_s",
        "prefill_s",
        "decode_s",
    ),
    *("input_tokens", "cached_tokens", "output_tokens", "n_tool_calls"),
    *("model", "served", "finish", "error_type", "outcome", "cache", "agent", "parent_agent"),
    *("agent_name", "agent_task", "dialect", "n_messages"),
    *("tier", "status", "provider", "tools_hash", "max_tokens", "ended_by", "let_go"),
    *("dialect", "n_messages", "agent_name", "agent_task"),
}
"""Figures that have their own place on the request screen."""


def text(store: Store, figure: Figure, row: int) -> str:
    """A request's figure for a person; a dash where it is not known."""
    if figure.kind in ("text", "list"):
        return store.text(figure.name, row) or fmt.UNKNOWN
    if figure.choices:
        return figure.choices[int(store.column(figure.name)[row])] or fmt.UNKNOWN
    return number(figure, float(comparable(store.column(figure.name)[[row]])[0]))


def number(figure: Figure, value: float) -> str:
    """A figure's value with its unit; a dash for NaN."""
    if figure.kind == "seconds":
        return fmt.duration(value)
    return fmt.UNKNOWN if value != value else f"{value:,.0f}"


def others(store: Store, row: int) -> Iterator[tuple[str, str]]:
    """Title and value of each known figure that has no other place on the screen."""
    for figure in FIGURES:
        if figure.name not in TOLD_ELSEWHERE:
            value = text(store, figure, row)
            if value != fmt.UNKNOWN:
                yield figure.title, value
