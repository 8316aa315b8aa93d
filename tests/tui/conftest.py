"""Keys are pressed as soon as what the last one did has come to rest; styles are read once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual._styles_cache import StylesCache
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

from mlxdeck.tui.workers import tail_worker


async def event_loop_rests(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until no callback is ready to run.

    Stands for Textual's `wait_for_idle`, with its arguments. That one sleeps 20 ms and more a key,
    until the process needs no processor; on a busy machine that says nothing.
    """
    del min_sleep, max_sleep
    loop = asyncio.get_running_loop()
    n_quiet = 0
    while n_quiet < 2:
        await asyncio.sleep(0)
        n_quiet = 0 if loop._ready else n_quiet + 1  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def keys_without_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """For Pilot, which all these tests drive the dashboard with."""
    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", event_loop_rests)


@pytest.fixture(autouse=True)
def soon_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended is found at once, and the reading thread ends with its dashboard."""
    monkeypatch.setattr(tail_worker, "POLL_S", 0.01)
    monkeypatch.setattr(tail_worker, "BUSY_POLL_S", 0.01)


_RULES: dict[object, list[RuleSet]] = {}
_parse_rules = Stylesheet._parse_rules


def _parsed_once(sheet: Stylesheet, *where: Any, **more: Any) -> list[RuleSet]:
    """A third of a dashboard's start is to parse what the one before has parsed."""
    key = (where, *more.items(), *sheet._variables.items())
    if key not in _RULES:
        _RULES[key] = _parse_rules(sheet, *where, **more)
    return _RULES[key]


@pytest.fixture(autouse=True)
def rules_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All dashboards share the rules of a stylesheet and its variables; nothing changes a rule."""
    monkeypatch.setattr(Stylesheet, "_parse_rules", _parsed_once)


@pytest.fixture(autouse=True)
def nothing_drawn_is_kept() -> Iterator[None]:
    """Textual remembers colours by widget, and with them all that a widget has drawn."""
    yield
    StylesCache.get_inner_outer.cache_clear()
