"""The dashboard's settings. Nothing that draws or counts is imported here: every command asks."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlxdeck.settings.declaration import setting
from mlxdeck.settings.program import ProgramSettings
from mlxdeck.settings.setting_types import Kind, number, size, text, whole
from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.remote_url import remote_url


def _command() -> Kind:
    """A program and its arguments, or nothing."""

    def read(raw: object) -> str:
        found = text().read(raw)
        if not isinstance(found, str) or (found and not shlex.split(found)):
            raise ValueError("names no program")
        return found

    return Kind("CMD", read)


def _hook_url() -> Kind:
    """A URL on this machine, or one with https, or nothing."""

    def read(raw: object) -> str:
        found = str(text().read(raw))
        if found:
            remote_url(found)
            # Not what it returns: with and without a slash at the end may be two places.
            if "@" in urlsplit(found).netloc or not found.isascii():
                raise ValueError("must be of ASCII, without a user's name or password")
        return found

    return Kind("URL", read)


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings(ProgramSettings):
    """Thresholds of alerts, who is told of them, and where telemetry is found."""

    alert_latency_p95_s: float = setting(0.0, number(0), group="Dashboard")
    """P95 latency above which there is an alert, in seconds; 0 for never."""
    alert_hit_rate: float = setting(0.0, number(0, 1))
    """Share of prompt tokens from cache below which there is an alert; 0 for never."""
    alert_error_rate: float = setting(0.0, number(0, 1))
    """Share of failed requests above which there is an alert; 0 for never."""
    alert_queue: int = setting(0, whole(0))
    """Length of the queue above which there is an alert; 0 for never."""
    alert_memory_bytes: int = setting(0, size())
    """Memory of the model above which there is an alert; 0 for never."""
    alert_exec: str = setting("", _command(), trusted=True)
    """Program that gets each alert and each new finding as JSON on its standard input."""
    alert_url: str = setting("", _hook_url(), secret=True, trusted=True)
    """URL that gets the same by POST: on this machine, or with https."""

    @property
    def thresholds(self) -> Thresholds:
        """When there is an alert."""
        return Thresholds(
            latency_p95_s=self.alert_latency_p95_s,
            hit_rate=self.alert_hit_rate,
            error_rate=self.alert_error_rate,
            queue=self.alert_queue,
            memory_bytes=self.alert_memory_bytes,
        )
