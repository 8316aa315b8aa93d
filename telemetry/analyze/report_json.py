"""Figures as plain values for JSON; what is unknown is null."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxdeck.telemetry.analyze.comparison import Comparison
from mlxdeck.telemetry.analyze.report import ReportFigures
from mlxdeck.telemetry.schema.events import Tick
from mlxdeck.telemetry.store.store import Store


def as_json(of: ReportFigures, against: Comparison | None = None) -> dict[str, Any]:
    """A report, or its totals alone; with a comparison, if there is one."""
    found = _plain(of)
    if of.money:
        found["money"]["saved"] = of.money.saved
    if against:
        found["against"] = _plain(against)
    return found


def with_server(of: dict[str, Any], store: Store) -> dict[str, Any]:
    """The same with the server's state at its last tick."""
    ticks = store.ticks
    last: Tick | None = ticks[len(ticks) - 1].tick if len(ticks) else None
    return {**of, "server": _named(last) if last else None}


def _plain(value: object) -> dict[str, Any]:
    # msgspec writes NaN as null.
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return found


def _named(tick: Tick) -> dict[str, Any]:
    return {name: getattr(tick, name) for name in tick.__struct_fields__}
