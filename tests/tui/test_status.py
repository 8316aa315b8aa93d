"""The line at the top: what it leaves out where there is little room."""

from __future__ import annotations

from textual.content import Content

from mlxdeck.tui.present.status_line import StatusPart, fitted

PARTS = [
    StatusPart(Content("mlxdeck  live"), Content("live")),
    StatusPart(Content("P95 8.87s is over 5.00s"), Content("1 alert")),
    StatusPart(Content("12 bad lines"), Content("12 bad")),
    StatusPart(Content("smollm2 on cpu")),
    StatusPart(Content("8k")),
]


def test_what_presses_is_told_before_what_is_only_good_to_know() -> None:
    """In few words first; nothing of less weight takes the place of something of more."""
    told = {width: fitted(PARTS, width).plain for width in range(4, 90)}
    assert all(len(text) <= width for width, text in told.items())
    assert told[4] == "live"
    assert told[16] == "live  │  1 alert"
    assert told[27] == "live  │  1 alert  │  12 bad"
    assert told[52] == "mlxdeck  live  │  P95 8.87s is over 5.00s  │  12 bad"
    assert told[89].endswith("smollm2 on cpu  │  8k")
    # Something short does not overtake something that does not fit.
    assert all("8k" not in text or "smollm2" in text for text in told.values())
