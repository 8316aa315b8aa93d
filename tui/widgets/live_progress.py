"""A running request as it moves: its phase, how far it is, and what it has written."""

from __future__ import annotations

import math

from rich.text import Text
from textual.widgets import Static

from mlxdeck.telemetry.analyze.running_progress import RunningProgress
from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.text.running_texts import sentence

MAX_LINES = 12
"""Of the text; the newest are shown."""


class LiveProgress(Static):
    """Hidden of a request that doesn't run."""

    COMPONENT_CLASSES = {"live--done", "live--left"}
    DEFAULT_CSS = """
    LiveProgress { height: auto; }
    LiveProgress > .live--done { color: $accent; }
    LiveProgress > .live--left { color: $grid; }
    """

    def show(self, of: RunningProgress | None, text: str) -> None:
        """Draw it; `text` is the end of the answer, or what would show it."""
        self.display = of is not None
        if of is None:
            return
        told = Text(sentence(of))
        if of.state == "prefill" and not math.isnan(of.read_share):
            told = Text.assemble(self._bar(of.read_share), "\n", told)
        if text:
            told.append("\n\n" + "\n".join(self._last_lines(text)))
        self.update(told)

    def _bar(self, share: float) -> Text:
        width = max(10, self.content_size.width - 6)
        done = round(share * width)
        return Text.assemble(
            ("━" * done, self.get_component_rich_style("live--done")),
            ("─" * (width - done), self.get_component_rich_style("live--left")),
            f" {fmt.percent(share):>5}",
        )

    def _last_lines(self, text: str) -> list[str]:
        width = max(20, self.content_size.width)
        lines = [
            str(part)
            for line in text.strip("\n").split("\n")
            for part in Text(line or " ").wrap(self.app.console, width)
        ]
        return lines[-MAX_LINES:]
