"""Keys are pressed as soon as what the last one did has come to rest."""

from __future__ import annotations

import asyncio

import pytest
import textual.app
import textual.pilot


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
