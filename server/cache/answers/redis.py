"""Exact answers in Redis, shared by several mlxdeck instances.

Redis never delays a request: a lookup takes at most `timeout_s`, and a store happens after the
answer. After a failure Redis is not used for a while. Failures are counted and reported once. Any
client of the Redis may write any bytes there. So a value counts only if its code was made with the
instances' common secret.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from mlxdeck.server.cache.answers.codec import Damaged, decode, encode
from mlxdeck.server.cache.answers.loss_reasons import LossReasons
from mlxdeck.server.cache.answers.memory import Answer, counted
from mlxdeck.server.cache.cache_stats import CacheStats, Counts

log = logging.getLogger(__name__)

PREFIX = "mlxdeck:answer:3:"
RETRY_S = 5.0
STORE_TIMEOUT_S = 2.0
MAX_PENDING = 64
MAX_PENDING_BYTES = 64 * 1024**2
MAX_VALUE_BYTES = 4 * 1024**2
"""A longer value is not ours, and is neither read nor stored."""
_A_FEW = 1000

# The client library parses any bytes as they arrive, and may raise any exception.
_FAILURES = (
    *(RedisError, OSError, TimeoutError, EOFError),
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError),
)

Report = Callable[[str], None]
T = TypeVar("T")


class RedisAnswers:
    """The `Tier` of other machines. For the event loop."""

    name = "shared"

    def __init__(
        self,
        url: str,
        timeout_s: float,
        report: Report,
        max_age_s: float = 0.0,
        secret: str = "",
    ) -> None:
        """`report` is called with a line when Redis stops working and when it works again.

        `max_age_s` of 0 is no limit: Redis keeps answers as long as it has room. Without a
        `secret`, the password in the URL is used.

        Raises:
            ValueError: It is no URL of a Redis.
        """
        self._redis = redis.Redis.from_url(
            url, socket_connect_timeout=STORE_TIMEOUT_S, socket_timeout=STORE_TIMEOUT_S
        )
        self._secret = (secret or password_of(url)).encode()
        self._timeout_s = timeout_s
        self._report = report
        self._max_age_s = max_age_s
        self.gone = LossReasons()
        self._down_until_s = 0.0
        self._failing = False
        self._pending: set[asyncio.Task[None]] = set()
        self._pending_bytes = 0
        self._n_clears = 0
        self.stats = CacheStats()
        self.errors = 0
        self.refused = 0
        """Values under our keys that were no answers, or not made with our secret."""
        self.dropped = 0
        """Answers that were not stored: too many waited to be, or they were too long."""

    n_bytes = 0
    """Unknown: it is the memory of another process."""

    def __len__(self) -> int:
        return 0

    @property
    def working(self) -> bool:
        """Whether it answered when it was last asked."""
        return not self._failing

    @property
    def has_secret(self) -> bool:
        """Whether only holders of the secret can make answers that are accepted here."""
        return bool(self._secret)

    async def get(self, key: str) -> Answer | None:
        """Look an answer up; None after `timeout_s` at the latest."""
        n_clears = self._n_clears
        ask = self._redis.getrange
        data = await self._bounded(lambda: ask(PREFIX + key, 0, MAX_VALUE_BYTES), self._timeout_s)
        # A key that isn't there reads as empty.
        if data and self._n_clears == n_clears and (answer := self._checked(key, data)):
            # Another instance may have another limit.
            if answer.remaining_s(self._max_age_s) > 0:
                self.stats.add(counted(answer))
                return answer
            self.gone.add(key, "expired")
        self.stats.add(Counts(misses=1))
        return None

    def _checked(self, key: str, data: object) -> Answer | None:
        try:
            return decode(data, key, self._secret)
        except Damaged as error:
            self._refuse(error)
        return None

    def _refuse(self, why: Exception) -> None:
        self.errors += 1
        self.refused += 1
        if self.refused == 1:
            self._report(f"the shared cache holds values that are not believed: {why}")

    def used(self, key: str) -> None:
        """Redis was not used."""

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer in the background."""
        remaining_s = answer.remaining_s(self._max_age_s)
        if remaining_s <= 0:
            return
        data = encode(answer, key, self._secret)
        too_many = len(self._pending) >= MAX_PENDING
        if too_many or len(data) > min(MAX_VALUE_BYTES, MAX_PENDING_BYTES - self._pending_bytes):
            self.dropped += 1
            return
        self.gone.back(key)
        expire_s = None if math.isinf(remaining_s) else math.ceil(remaining_s)
        task = asyncio.create_task(self._store(key, data, expire_s))
        self._pending.add(task)
        self._pending_bytes += len(data)
        task.add_done_callback(lambda task: self._stored(task, len(data)))

    def _stored(self, task: asyncio.Task[None], n_bytes: int) -> None:
        self._pending.discard(task)
        self._pending_bytes -= n_bytes

    def tick(self) -> None:
        """Nothing to do: stores begin at once."""

    def expire(self) -> None:
        """Redis drops old answers itself."""

    async def _store(self, key: str, data: bytes, expire_s: int | None) -> None:
        store = self._redis.set
        await self._bounded(lambda: store(PREFIX + key, data, ex=expire_s), STORE_TIMEOUT_S)

    async def _bounded(self, ask: Callable[[], Awaitable[T]], timeout_s: float) -> T | None:
        if time.monotonic() < self._down_until_s:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                result = await ask()
        except _FAILURES as error:
            if isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE"):
                # Redis works, but another program has something else under this key.
                self._refuse(Damaged("no string"))
                return None
            self._failed(error)
            return None
        if self._failing:
            self._failing = False
            self._report("the shared cache works again")
        return result

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        self._down_until_s = time.monotonic() + RETRY_S
        if not self._failing:
            self._failing = True
            # Not the error's own text: it may quote the URL, and the URL a password.
            self._report(f"the shared cache does not work: {type(error).__name__}")

    async def clear(self) -> int:
        """Drop every answer of every instance; return how many there were."""
        self._n_clears += 1
        n_dropped = 0

        async def drop() -> None:
            nonlocal n_dropped
            batch: list[bytes] = []
            async for key in self._redis.scan_iter(f"{PREFIX}*", count=_A_FEW):
                batch.append(key)
                if len(batch) == _A_FEW:
                    n_dropped += int(await self._redis.unlink(*batch))
                    batch.clear()
            n_dropped += int(await self._redis.unlink(*batch)) if batch else 0

        await self._bounded(drop, STORE_TIMEOUT_S)
        return n_dropped

    async def close(self) -> None:
        """Finish the running stores, and disconnect."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=STORE_TIMEOUT_S)
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await self._redis.aclose()
        except _FAILURES:
            log.debug("the shared cache was gone already")


def password_of(url: str) -> str:
    """The password in the URL of a Redis; empty if there is none."""
    split = urlsplit(url)
    (asked,) = parse_qs(split.query).get("password", [""])[-1:]
    return unquote(split.password or "") or asked
