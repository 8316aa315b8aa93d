"""Every panel, in the order of its key."""

from __future__ import annotations

from mlxdeck.tui.panels import charts, lists, timeline, tools
from mlxdeck.tui.panels.panel import PanelKind, RowName

PANELS = (
    PanelKind("latency", "latency", "charts", charts.latency),
    PanelKind("hits", "cache", "charts", charts.hits),
    PanelKind("throughput", "throughput", "charts", charts.throughput),
    PanelKind("requests", "requests", "lists", lists.RequestsPanel),
    PanelKind("calls", "tool calls", "lists", lists.CallsPanel),
    PanelKind("errors", "errors", "lists", lists.ErrorsPanel),
    PanelKind(
        "timeline", "timeline", "times", timeline.TimelinePanel, from_columns=timeline.FROM_COLUMNS
    ),
    PanelKind("tools", "tools", "lists", tools.ToolsPanel),
)
ROWS: tuple[RowName, ...] = ("charts", "times", "lists")
"""From top to bottom. How high each is, is in `app.tcss`."""
PANEL_IDS = tuple(kind.id for kind in PANELS)
