"""Signs of life for a client while another server is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

T = TypeVar("T")


async def with_silences(source: AsyncGenerator[T], longest_s: float) -> AsyncGenerator[T | None]:
    """Everything that comes, and None after each such time in which nothing came.

    Closes the source.
    """
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(source))
            while not (await asyncio.wait({coming}, timeout=longest_s))[0]:
                yield None
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await source.aclose()
