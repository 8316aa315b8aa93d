"""Exact answers in Redis, shared by several mlxdeck instances.

Never in anybody's way: a lookup takes at most `timeout_s`, a store happens behind the answer, and
after a failure Redis is left alone for a while. What goes wrong is counted and reported once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio as redis
from redis.exceptions import RedisError

from mlxdeck.server.cache.answers.codec import Damaged, decode, encode
from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.answers.memory import Answer, counted
from mlxdeck.server.cache.cache_stats import CacheStats, Counts

log = logging.getLogger(__name__)

PREFIX = "mlxdeck:answer:"
RETRY_S = 5.0
STORE_TIMEOUT_S = 2.0
MAX_PENDING = 64

Report = Callable[[str], None]
T = TypeVar("T")


class RedisAnswers:
    """The `Tier` of other machines. For the event loop."""

    name = "shared"

    def __init__(self, url: str, timeout_s: float, report: Report, max_age_s: float = 0.0) -> None:
        """`report` is told, in a line, when Redis stops working and when it works again.

        `max_age_s` of 0 is no limit: Redis keeps answers as long as it has room.

        Raises:
            ValueError: That is no URL of a Redis.
        """
        self._redis = redis.Redis.from_url(url, socket_connect_timeout=STORE_TIMEOUT_S)
        self._timeout_s = timeout_s
        self._report = report
        self._max_age_s = max_age_s
        self.gone = LossReasons()
        self._down_until_s = 0.0
        self._failing = False
        self._pending: set[asyncio.Task[None]] = set()
        self.tally = CacheStats()
        self.errors = 0
        self.dropped = 0
        """Answers that were not stored, because too many waited to be."""

    n_bytes = 0
    """Unknown: it is the memory of another process."""

    def __len__(self) -> int:
        return 0

    @property
    def working(self) -> bool:
        """Whether it answered when it was last asked."""
        return not self._failing

    def knows_request(self, request: str) -> bool:
        """It can't be asked for that."""
        del request
        return False

    async def get(self, key: str) -> Answer | None:
        """Look an answer up; None after `timeout_s` at the latest."""
        data = await self._bounded(lambda: self._redis.get(PREFIX + key), self._timeout_s)
        if isinstance(data, bytes):
            try:
                answer = decode(data)
            except Damaged as error:
                self.errors += 1
                log.warning("the shared cache returned something else: %s", error)
            else:
                # Whoever stored it may have been told another limit.
                if answer.remaining_s(self._max_age_s) > 0:
                    self.tally.add(counted(answer))
                    return answer
                self.gone.add(key, "expired")
        self.tally.add(Counts(misses=1))
        return None

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer in the background."""
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
            return
        remaining_s = answer.remaining_s(self._max_age_s)
        if remaining_s <= 0:
            return
        self.gone.back(key)
        expire_s = None if math.isinf(remaining_s) else math.ceil(remaining_s)
        task = asyncio.create_task(self._store(key, encode(answer), expire_s))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def expire(self) -> None:
        """Redis does that by itself."""

    async def _store(self, key: str, data: bytes, expire_s: int | None) -> None:
        store = self._redis.set
        await self._bounded(lambda: store(PREFIX + key, data, ex=expire_s), STORE_TIMEOUT_S)

    async def _bounded(self, ask: Callable[[], Awaitable[T]], timeout_s: float) -> T | None:
        if time.monotonic() < self._down_until_s:
            return None
        try:
            result = await asyncio.wait_for(ask(), timeout_s)
        except (RedisError, OSError, TimeoutError) as error:
            self.errors += 1
            self._down_until_s = time.monotonic() + RETRY_S
            if not self._failing:
                self._failing = True
                # Not the error's own text: it may quote the URL, and the URL a password.
                self._report(f"the shared cache does not work: {type(error).__name__}")
            return None
        if self._failing:
            self._failing = False
            self._report("the shared cache works again")
        return result

    async def clear(self) -> int:
        """Drop every answer of every instance; return how many there were."""

        async def drop() -> int:
            keys = [key async for key in self._redis.scan_iter(f"{PREFIX}*", count=1000)]
            return int(await self._redis.delete(*keys)) if keys else 0

        return await self._bounded(drop, STORE_TIMEOUT_S) or 0

    async def close(self) -> None:
        """Finish what is being stored, and disconnect."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=STORE_TIMEOUT_S)
        try:
            await self._redis.aclose()
        except (RedisError, OSError):
            log.debug("the shared cache was gone already")
