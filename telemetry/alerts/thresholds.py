"""The thresholds of alerts. Nothing that counts is imported here: settings hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Upper or lower limits; 0 turns a limit off."""

    latency_p95_s: float = 0.0
    hit_rate: float = 0.0
    """The only lower limit."""
    error_rate: float = 0.0
    queue: int = 0
    memory_bytes: int = 0
