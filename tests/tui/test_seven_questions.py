"""What people ask of the dashboard, each answered by at most three keys, over a real afternoon."""

from __future__ import annotations

import re

from textual.pilot import Pilot

from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.panels.registry import PANEL_IDS
from mlxdeck.tui.screens.dashboard import DashboardScreen
from tests.shots import RECORDINGS, WINDOW, loaded, read

TOOLS = str(PANEL_IDS.index("tools") + 1)
"""The key of the panel of tools."""
QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "what is it doing right now": ((), (r"(reading|writing|queued|waiting)",)),
    "is the server overloaded": ((), (r"running +\d", r"queue +\d+/\d+")),
    "how much was saved": ((), (r"tokens saved +\d", r"time saved +\d")),
    "is the cache working, and who is to blame": (
        (),
        (r"tokens from cache: \d+%", r"\d+ of \d+ cache misses begin in system"),
    ),
    "which tools failed": ((TOOLS,), (r"failed", r"Edit +\d+ ", r"Bash +\d+ ")),
    "what changed between two turns": (
        ("down", "enter", "c"),
        (r"first difference: message \d+", r"goes on for \d more messages"),
    ),
    "which were slow and why": (
        ("o", "enter"),
        (r"by total", r"queue .*\ds +\d+%", r"prefill .*\ds +\d+%", r"total .*\ds"),
    ),
}


async def test_each_question_has_its_answer_within_three_keys() -> None:
    """From the main screen, as it is at first; the answer stands on the screen then."""
    recording = RECORDINGS / "afternoon.jsonl"
    expected = read(recording)
    app = Dashboard([recording], clock=lambda: expected.last_ts - 0.2, window=WINDOW)
    async with app.run_test(size=(132, 43)) as pilot:
        await loaded(pilot, app, expected.n_lines)
        for question, (keys, answers) in QUESTIONS.items():
            assert len(keys) <= 3, question
            for key in keys:
                await pilot.press(key)
            text = await drawn(pilot, app)
            for answer in answers:
                assert re.search(answer, text), f"{question}: {answer!r} is not on\n{text}"
            while not isinstance(app.screen, DashboardScreen):
                await pilot.press("escape")
            if TOOLS in keys:
                await pilot.press(TOOLS)


async def drawn(pilot: Pilot[None], app: Dashboard) -> str:
    """The screen, once it is at rest."""
    app.redraw_now()
    await pilot.pause()
    await pilot.pause()
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())
