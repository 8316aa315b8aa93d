"""Looks at a growing store for whoever shows it, and hands what is new to the hooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlxdeck.telemetry.alerts.hooks import AlertHooks
from mlxdeck.telemetry.alerts.thresholds import Thresholds
from mlxdeck.telemetry.alerts.watch import Alert, FindingWatch, Watch
from mlxdeck.telemetry.analyze.findings import findings
from mlxdeck.telemetry.analyze.report import Period, lost_rows, rows_of
from mlxdeck.telemetry.analyze.running_servers import latest_tick
from mlxdeck.telemetry.analyze.stats import Array, Summary, Window, summary
from mlxdeck.telemetry.store.store import Store

MAX_ROWS = 2_000
"""Requests that are searched for findings, the last ones: the dashboard's thread does it."""
REST = 20
"""Findings rest for so many times as long as they took."""


class StreamAlarm:
    """Thresholds always, findings where there are hooks. For the store's thread."""

    def __init__(
        self,
        limits: Thresholds,
        hooks: AlertHooks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.hooks = hooks
        self._thresholds = Watch(limits)
        self._findings = FindingWatch()
        self._clock = clock
        self._searched = (0, 0, 0)
        self._rest_until_s = 0.0

    @property
    def active(self) -> list[Alert]:
        """Crossings that are not over."""
        return self._thresholds.active

    def look(
        self, store: Store, period: Period, total: Summary | None = None, *, fires: bool = True
    ) -> list[Alert]:
        """What is new at the period's end.

        `total` is of the figures that have thresholds, by default of the period; findings are of
        the period. Without `fires`, hooks are not told of what is crossed, and findings are not
        looked for.
        """
        now_ts = period.until_ts
        if total is None:
            window = Window("", now_ts - period.from_ts)
            total = summary(store, window, now_ts)
        new = self._thresholds.look(total, latest_tick(store, now_ts))
        if self.hooks is None or not fires:
            return new
        rows, lost = rows_of(store, period), lost_rows(store, period)
        new += self._new_findings(store, rows[-MAX_ROWS:], lost)
        for alert in new:
            self.hooks.fire(alert, now_ts, _file_of(store, rows if len(rows) else lost))
        return new

    def _new_findings(self, store: Store, rows: Array, lost: Array) -> list[Alert]:
        began_s = self._clock()
        searched = (len(rows), int(rows[-1]) if len(rows) else 0, len(lost))
        if searched == self._searched or began_s < self._rest_until_s:
            return []
        self._searched = searched
        new = self._findings.look(findings(store, rows, lost=lost))
        ended_s = self._clock()
        self._rest_until_s = ended_s + REST * (ended_s - began_s)
        return new


def _file_of(store: Store, rows: Array) -> Path | None:
    """The file of the last one of some requests."""
    return store.spans(int(rows[-1]))[-1].path if len(rows) else None
