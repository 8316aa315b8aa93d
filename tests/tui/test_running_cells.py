"""The bar of a running request, at every width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxdeck.telemetry.analyze.running_progress import RunningProgress
from mlxdeck.tui.widgets.running_cells import bar

READ = RunningProgress(
    state="prefill", waits_for="", position=-1, prompt_tokens=58_000, cached_tokens=0,
    read_tokens=29_000, output_tokens=0, output_chars=0, held=False, state_s=3, per_s=1_000,
)  # fmt: skip
WRITTEN = replace(READ, state="decode", output_tokens=231, per_s=18)


@pytest.mark.parametrize(
    ("of", "least", "figures"),
    [
        (READ, 9, ["29,000 of 58,000", "1.0k/s", "29.0s left"]),
        (WRITTEN, 0, ["231 tok", "18.0/s"]),
        (replace(WRITTEN, output_tokens=-1, output_chars=9_000), 0, ["9,000 chars", "18.0/s"]),
        (replace(READ, state="wait", waits_for="memory"), 0, ["for memory", "58,000 tokens"]),
    ],
)
def test_figures_are_whole_or_left_out(of: RunningProgress, least: int, figures: list[str]) -> None:
    """The bar fills its width exactly, and half a number is never shown."""
    for width in range(10, 80):
        text = "".join(each for each, _ in bar(of, width))
        assert len(text) == width
        shown = text.strip("━─ ").split("  ") if text.strip("━─ ") else []
        assert shown == figures[: len(shown)]
    assert len(shown) == len(figures)
