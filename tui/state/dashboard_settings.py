"""The dashboard's settings. Nothing that draws or counts is imported here: every command asks."""

from __future__ import annotations

from dataclasses import dataclass

from mlxdeck.settings.declaration import setting
from mlxdeck.settings.program import ProgramSettings
from mlxdeck.settings.setting_types import number, size, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings(ProgramSettings):
    """Thresholds of the dashboard's alerts, and where it finds telemetry."""

    alert_latency_p95_s: float = setting(0.0, number(0), group="Dashboard")
    """P95 latency above which the dashboard warns, in seconds; 0 for never."""
    alert_hit_rate: float = setting(0.0, number(0, 1))
    """Share of prompt tokens from cache below which the dashboard warns; 0 for never."""
    alert_error_rate: float = setting(0.0, number(0, 1))
    """Share of failed requests above which the dashboard warns; 0 for never."""
    alert_queue: int = setting(0, whole(0))
    """Length of the queue above which the dashboard warns; 0 for never."""
    alert_memory_bytes: int = setting(0, size())
    """Memory of the model above which the dashboard warns; 0 for never."""
