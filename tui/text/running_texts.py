"""How far a running request is, in words of several lengths. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlxdeck.telemetry.analyze.running_progress import RunningProgress
from mlxdeck.tui.text import format as fmt


def phase(of: RunningProgress) -> str:
    """In at most 16 cells: `queued 3rd`, `reading 21%`, `writing, held`."""
    match of.state:
        case "wait":
            return f"queued {_ordinal(of.position)}" if of.position > 0 else "waiting"
        case "prefill":
            share = "" if math.isnan(of.read_share) else f" {fmt.percent(of.read_share)}"
            return f"reading{share}"
        case "decode":
            return "writing, held" if of.held else "writing"
        case "prepare":
            return "preparing"
        case _:
            return of.state or "open"


def figures(of: RunningProgress, width: int) -> str:
    """What there is to count: `12,400 of 58,000  850/s  54s left`, `231 tok  18.0/s`.

    As many of them as fit into a width in cells; what is not ours is cut.
    """
    found = ""
    for each in _figures(of):
        longer = f"{found}  {each}" if found else each
        if len(longer) > width and (found or of.state in ("prefill", "decode")):
            break
        found = longer
    return fmt.one_line(found, width)


def sentence(of: RunningProgress) -> str:
    """All of it: for the request's page."""
    parts = [phase(of), *_figures(of), f"for {fmt.duration(of.state_s)}"]
    if of.state == "prefill" and of.waits_for:
        parts.append(f"waits for {of.waits_for}")
    if of.cached_tokens > 0:
        parts.append(f"{of.cached_tokens:,} known")
    return "  ·  ".join(parts)


def _figures(of: RunningProgress) -> Iterator[str]:
    if of.state in ("wait", "prepare"):
        if of.waits_for:
            yield f"for {of.waits_for}"
        if of.prompt_tokens > 0:
            yield f"{of.prompt_tokens:,} tokens"
        return
    if of.state == "prefill" and of.prompt_tokens > 0:
        yield f"{of.read_tokens:,} of {of.prompt_tokens:,}"
    elif of.state == "decode" and of.output_tokens >= 0:
        yield f"{of.output_tokens:,} tok"
    elif of.state == "decode" and of.output_chars >= 0:
        yield f"{of.output_chars:,} chars"
    if not math.isnan(of.per_s):
        yield f"{fmt.rate(of.per_s)}/s"
    if not math.isnan(of.left_s):
        yield f"{fmt.duration(of.left_s)} left"


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
