"""Others on the event loop get on while one of them goes through a long list."""

from __future__ import annotations

import asyncio

AT_ONCE = 16
"""So many events of an answer are passed on in less than a millisecond."""


async def take_turns(n_done: int) -> None:
    """Wait for others after some items of a list, counted from 1."""
    if n_done % AT_ONCE == 0:
        await asyncio.sleep(0)
