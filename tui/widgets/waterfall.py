"""Where one request's time went, phase under phase, and what its tokens were."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from mlxdeck.telemetry.analyze.request_detail import PHASES, RARE
from mlxdeck.tui.text import format as fmt

_TEXT_CELLS = 24
"""Name, length and share."""
OTHER_SHARE = 0.005
"""A smaller share of time without a phase is not shown."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase: its name, and its length in seconds."""

    name: str
    seconds: float
    """NaN while it is not known."""

    @property
    def known_s(self) -> float:
        """The same as a number to calculate with."""
        return 0.0 if math.isnan(self.seconds) else self.seconds


class Waterfall(Widget):
    """Spans one after the other on one scale."""

    COMPONENT_CLASSES = {f"span--{name}" for name in (*PHASES, "other")} | {"span--muted"}
    DEFAULT_CSS = """
    Waterfall { height: auto; text-wrap: nowrap; }
    Waterfall > .span--tokenize { color: $secondary; }
    Waterfall > .span--cache { color: $success; }
    Waterfall > .span--queue { color: $warning; }
    Waterfall > .span--load { color: $error; }
    Waterfall > .span--prefill { color: $primary; }
    Waterfall > .span--decode { color: $accent; }
    Waterfall > .span--other { color: $dim; }
    Waterfall > .span--muted { color: $dim; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._spans: list[PhaseSpan] = []
        self._total_s = 0.0
        self._scale_s = 0.0

    def show(self, spans: list[PhaseSpan], total_s: float, scale_s: float = 0.0) -> None:
        """Draw these spans. The rest of the total, if it is known, is drawn as `other`.

        The whole width is `scale_s`, if that is longer than the total.
        """
        spans = [span for span in spans if span.seconds > 0 or span.name not in RARE]
        rest = total_s - sum(span.known_s for span in spans)
        some_known = any(not math.isnan(span.seconds) for span in spans)
        is_told = some_known and rest > OTHER_SHARE * total_s
        other = [PhaseSpan("other", rest)] if is_told else []
        self._spans, self._total_s = [*spans, *other], total_s
        self._scale_s = 0.0 if math.isnan(total_s) else max(total_s, scale_s)
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line for each span and one for the total, at every width."""
        return len(self._spans) + 1

    def render(self) -> Text:
        """A line for each span: name, bar, length and share."""
        muted = self.get_component_rich_style("span--muted")
        width = max(4, self.content_size.width - _TEXT_CELLS)
        text, before_s = Text(no_wrap=True), 0.0
        eighths = width * 8 / self._scale_s if self._scale_s else 0.0
        for span in self._spans:
            share = span.seconds / self._total_s if self._total_s else math.nan
            style = self.get_component_rich_style(f"span--{span.name}")
            start = round(before_s * eighths)
            length = max(1, round(span.seconds * eighths)) if span.seconds > 0 else 0
            text.append(f"{span.name:<10}", "" if span.seconds > 0 else muted)
            text.append_text(_bar(start, length, width, style))
            text.append(f" {fmt.duration(span.seconds):>7}", "bold" if share > 0.5 else "")
            text.append(f" {fmt.percent(share):>5}\n", muted)
            before_s += span.known_s
        text.append(f"{'total':<10}{' ' * width} {fmt.duration(self._total_s):>7}", "bold")
        return text


def _bar(start_eighths: int, length_eighths: int, width: int, style: Style) -> Text:
    """A bar on `width` cells: it ends at an eighth of a cell, and begins at a half one.

    Blocks grow from the left; of those that are open there, terminals have only the half one.
    """
    if not length_eighths:
        return Text(" " * width)
    start = min(start_eighths, width * 8 - 1)
    end = min(start + length_eighths, width * 8)
    first, skipped = divmod(start, 8)
    last, part = divmod(end, 8)
    bar = Text(" " * first)
    if first == last:
        bar.append(_EIGHTHS[max(1, part - skipped)], style)
    else:
        bar.append("█" if skipped < 3 else "▐" if skipped < 6 else " ", style)
        bar.append("█" * (last - first - 1) + (_EIGHTHS[part] if part else ""), style)
    bar.pad_right(width - bar.cell_len)
    return bar


class TokenBar(Widget):
    """Prompt and answer as one bar: cached, computed, generated."""

    COMPONENT_CLASSES = {"tokens--cached", "tokens--new", "tokens--out"}
    DEFAULT_CSS = """
    TokenBar { height: 3; }
    TokenBar > .tokens--cached { color: $success; }
    TokenBar > .tokens--new { color: $primary; }
    TokenBar > .tokens--out { color: $accent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts = (0, 0, 0)

    def show(self, cached: int, new: int, out: int) -> None:
        """Draw these numbers of tokens."""
        self._parts = (cached, new, out)
        self.refresh()

    def render(self) -> Text:
        """The bar, and below it what its parts are; a line between keeps their signs apart."""
        total, prompt = sum(self._parts), self._parts[0] + self._parts[1]
        if not total:
            return Text("not known: the prompt was not read", style="dim")
        text, legend = Text(no_wrap=True), Text("\n\n", no_wrap=True)
        for n, name, fill in zip(
            self._parts, ("cached", "new", "out"), ("█", "▓", "░"), strict=True
        ):
            style = self.get_component_rich_style(f"tokens--{name}")
            cells = max(1, round(n / total * self.size.width)) if n else 0
            text.append(fill * cells, style)
            legend.append(f"{fill} ", style)
            is_share = name == "cached" and prompt > 0
            share = f" ({fmt.percent(n / prompt)} of the prompt)" if is_share else ""
            legend.append(f"{n:,} {name}{share}   ")
        text.truncate(self.size.width)
        return text + legend
