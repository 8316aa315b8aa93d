"""Others on the event loop get on while one of them goes through a long list."""

from __future__ import annotations

import asyncio

AT_ONCE = 16
"""So many events of an answer are passed on in less than a millisecond."""


class LoopTurns:
    """Counts what one coroutine has done."""

    def __init__(self) -> None:
        self._n_done = 0

    async def take(self) -> None:
        """Something is done; let others get on if it was enough by now."""
        self._n_done += 1
        if self._n_done % AT_ONCE == 0:
            await asyncio.sleep(0)
