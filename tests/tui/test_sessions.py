"""The sessions: a tree of agents, their turns, and how one is found."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.telemetry.read.content_search import UserSearch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.screens.sessions import SessionsScreen
from mlxdeck.tui.widgets.turn_strip import TurnStrip, turns_of
from tests.streams import START_TS, Stream
from tests.tui.running import REQUESTS, running

AGENT = {"agent_id": "a17", "agent_name": "Explore", "agent_task": "Look at boats"}


def with_agents() -> list[bytes]:
    """A session whose main agent has started another one; its user speaks of the moon."""
    stream, lines = Stream(9), []
    agents: list[dict[str, Any]] = [{}, AGENT, AGENT, {}]
    for n, who in enumerate(agents):
        name, asked = f"req_a{n}", "Where is the moon?"
        begun = t.RequestStart(model="m", n_messages=1, last_user_text=asked, **who)
        lines.append(stream.line(begun, 91 + n, name, "moonlit"))
        failed = t.CallResult(name="Read", call_id="toolu_1", failed=True, text="no such boat")
        if n == 1:
            call = t.ToolCall(name="Read", call_id="toolu_1", arguments="{}")
            lines.append(stream.line(call, 91.5 + n, name, "moonlit"))
        elif n == 2:
            lines.append(stream.line(failed, 91 + n, name, "moonlit"))
        end = t.RequestEnd(
            outcome="error" if n == 3 else "ok",
            input_tokens=1000 * (n + 1),
            cached_tokens=500 * n,
            miss_reason="diverged" if n == 1 else "",
            diverged_block="tools.Read" if n == 1 else "",
        )
        lines.append(stream.line(end, 91.6 + n, name, "moonlit"))
    return lines


async def test_sub_agents_are_seen_as_what_they_are(tmp_path: Path) -> None:
    """As a tree that folds; each has its turns, and filters by itself."""
    async with running(tmp_path, extra=with_agents()) as run:
        await run.press("s")
        assert isinstance(run.app.screen, SessionsScreen)
        assert "▾ moonlit" in run.text and "1 agent" in run.text
        assert "└ Explore  Look at boats" in run.text and "· main" in run.text
        assert "1 missed: 1 parted in tools.Read" in run.text
        await run.press("left")
        assert "▸ moonlit" in run.text and "Look at boats" not in run.text
        await run.press("space", "down", "down")
        assert "requests of Explore in moonlit" in run.text and run.table.n_items == 2
        strip = run.app.screen.query_one(TurnStrip)
        assert "2 of 2 · 3.0k tokens, 33% cached" in str(strip.border_subtitle)
        await run.press("tab", "left")
        assert "1 of 2 · 2.0k tokens, 25% cached" in str(strip.border_subtitle)
        assert run.table.item == len(REQUESTS) + 1
        await run.press("enter")
        assert run.shown_row == len(REQUESTS) + 1
        # The result of its call, with default settings.
        assert "Explore a17, Look at boats" in run.text and "no such boat" in run.text
        await run.press("escape", "shift+tab", "enter")
        await run.until(lambda: run.table.n_items == 2)


async def test_a_session_is_found_by_what_was_said_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by its agents; escape shows all of them again."""
    may_look, look = threading.Event(), UserSearch.look
    monkeypatch.setattr(UserSearch, "look", lambda *told: may_look.wait(60) and look(*told))
    may_look.set()
    async with running(tmp_path, extra=with_agents()) as run:
        await run.press("s")
        for typed in ("moon?", "boats"):
            await run.press("slash", *typed)
            await run.until(lambda: "1 of 3 sessions" in run.text)
            assert "session0" not in run.text
            await run.press("escape")
            assert "3 sessions" in run.text and "session0" in run.text
        may_look.clear()
        await run.press("slash", *"sun")
        assert "0 of 3 sessions" in run.text
        # What users said is looked through after the names.
        assert "searching…" in run.text
        may_look.set()
        await run.until(lambda: "no session has that" in run.text)
        # Its server kept no texts.
        assert "to find what users said: mlxdeck serve --capture full" in run.text
        assert "requests of" not in run.text and "█" not in run.text
        await run.press("escape", "o", "o")
        assert "longest prompts first" in run.text
        await run.press("escape")
        assert not isinstance(run.app.screen, SessionsScreen)


async def test_turns_are_those_of_the_shown_moment(tmp_path: Path) -> None:
    """What ended later still runs."""
    async with running(tmp_path, extra=with_agents()) as run:
        store = run.app.store
        rows = store.by_start.rows[-4:]
        now = turns_of(store, rows, float("inf"))
        assert [(each.tokens, each.cached, each.mark) for each in now] == [
            *((1000, 0, " "), (2000, 500, " "), (3000, 1000, " "), (4000, 1500, "✗"))
        ]
        before = turns_of(store, rows[:2], START_TS + 92.1)
        assert [(each.tokens, each.mark) for each in before] == [(1000, " "), (0, "◌")]
