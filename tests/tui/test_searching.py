"""Filtering by what was captured, while it is being looked for."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.telemetry.schema.events import Content
from tests.streams import Stream
from tests.tui.running import running


def told(request: str, text: str, at_s: float = 90) -> bytes:
    """A message of a request."""
    content = f'[{{"type":"text","text":"{text}"}}]'
    return Stream().line(Content(kind="message", role="user", content=content), at_s, request)


async def test_a_text_is_found_in_what_was_captured(tmp_path: Path) -> None:
    """Also in what comes later, in a filter among others, and while the view is held."""
    lines = [told("req_7_0001", "the capital of France"), told("req_7_0004", "Paris")]
    async with running(tmp_path, extra=lines) as run:
        await run.press("slash", *"text:capital or tool:bash")
        await run.until(lambda: run.table.n_items == 2)
        assert "2 match" in run.text and "so far" not in run.text
        await run.press("enter")
        await run.add(told("req_7_0002", "another capital"))
        await run.until(lambda: run.table.n_items == 3)
        await run.press("space")
        run.app.filter_by("paris status:ok")
        await run.until(lambda: run.table.n_items == 1)
        assert run.table.item == 4
        await run.press("space", "escape")
        await run.until(lambda: run.table.n_items == 6)


async def test_the_last_text_that_was_typed_counts(tmp_path: Path) -> None:
    """However fast one was typed after the other."""
    async with running(
        tmp_path, extra=[told("req_7_0001", "abcd"), told("req_7_0003", "abc")]
    ) as run:
        await run.press("slash", *"text:abcd")
        await run.until(lambda: not run.app.context.sought and run.table.n_items == 1)
        assert run.table.item == 1
        await run.press("backspace")
        await run.until(lambda: run.table.n_items == 2)
