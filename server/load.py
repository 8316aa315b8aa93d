"""The activity and memory of a server at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Figures of one moment; token counts are since the start."""

    active: int = 0
    queued: int | None = 0
    """None if another server doesn't tell."""
    output_tokens: int = 0
    prefill_tokens: int = 0
    exact_entries: int = 0
    exact_bytes: int = 0
    prefix_entries: int = 0
    prefix_bytes: int = 0
    memory_active_bytes: int = 0
    memory_peak_bytes: int = 0
