"""The activity and memory of a server at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of this machine: whether it is in memory, and how it came and went."""

    name: str
    state: Literal["loaded", "loading", "unloaded"] = "loaded"
    since_s: float = field(default=0.0, compare=False)
    """How long it has been in this state."""
    idle_s: float = field(default=0.0, compare=False)
    """How long nobody has asked for it."""
    n_loads: int = 0
    """How often it was loaded again."""
    load_s: float = 0.0
    """How long that took, the last time."""
    n_unloads: int = 0
    freed_bytes: int = 0
    """Memory that the last unloading gave back, states included."""
    n_failed: int = 0
    """How often it could not be loaded again."""
    failure: str = ""
    """Why, the last time."""


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
    prefix_quantized_bytes: int = 0
    """Those of them that lie in 8 bits."""
    prefix_limit_bytes: int | None = None
    """None where no states are kept here."""
    memory_active_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_limit_bytes: int | None = None
    """None where no model is here."""
    max_active: int | None = None
    max_queued: int | None = None
    """How many may run, and wait; None where another server decides."""
    models: tuple[ModelState, ...] = ()
