"""The threads of all disk work of the caches.

One reads rows, one checks whole files, one writes. So an answer of a kilobyte waits neither for the
checksum of a state of gigabytes nor for the writing of one. Failures are counted and logged once,
and the caches continue without the failed data.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mlxdeck.server.cache.sqlite_index import SqliteIndex
from mlxdeck.server.errors import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class DiskIO:
    """A database, with threads to read, to check and to write. Safe from any thread."""

    def __init__(self, database: SqliteIndex) -> None:
        self.database = database
        self.errors = 0
        self.dropped = 0
        """Writes that were given up because closing had no more time for them."""
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="disk-read")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="disk-check")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk-write")
        self._lock = threading.Lock()
        self._failing = False
        self._closes_s = math.inf

    async def read(self, work: Work[T], default: T) -> T:
        """Read rows; `default` if that fails."""
        return await self._on(self._reader, work, default)

    async def check(self, work: Work[T], default: T) -> T:
        """Read whole files, which may take seconds; `default` if that fails."""
        return await self._on(self._checker, work, default)

    async def _on(self, pool: ThreadPoolExecutor, work: Work[T], default: T) -> T:
        loop = asyncio.get_running_loop()
        try:
            reading = loop.run_in_executor(pool, self._guarded, work, default)
        except RuntimeError:
            return default  # Closed: the server is stopping.
        return await reading

    def write(self, work: Work[object]) -> Future[object]:
        """Do something on the writing thread, in the background, in the order of the calls."""
        try:
            return self._writer.submit(self._written, work)
        except RuntimeError:
            # Closed: the server is stopping, and no request may fail because of that.
            self.dropped += 1
            given_up: Future[object] = Future()
            given_up.set_result(None)
            return given_up

    def _written(self, work: Work[object]) -> object:
        if time.monotonic() > self._closes_s:
            self.dropped += 1
            return None
        return self._guarded(work, None)

    def _guarded(self, work: Work[T], default: T) -> T:
        generation = self.database.generation
        try:
            with self.database.begin() as connection:
                result = work(connection)
        except (sqlite3.Error, OSError) as error:
            self._failed(error, generation)
            return default
        # The edge of the thread: a bug costs cached data, and neither the request nor the thread.
        except Exception as error:
            log.exception("a cache on disk failed")
            self._failed(error, generation)
            return default
        self._failing = False
        return result

    def _failed(self, error: Exception, generation: int) -> None:
        with self._lock:
            self.errors += 1
            was_failing, self._failing = self._failing, True
        if not was_failing:
            # Its text and not itself: its traceback holds what could not be written.
            log.warning("the caches on disk do not work: %s", one_line(error))
        # Exactly this type: "malformed" or "not a database". A locked or full one is another.
        if type(error) is sqlite3.DatabaseError:
            try:
                self.database.begin_anew(generation, error)
            except (sqlite3.Error, OSError) as worse:
                log.warning("a new index can't be made either: %s", one_line(worse))

    @property
    def working(self) -> bool:
        """Whether the last thing it was asked to do worked."""
        return not self._failing

    def hurry(self) -> None:
        """Start no further writes; the current one continues."""
        self._closes_s = -math.inf

    def close(self, within_s: float | None = None) -> None:
        """Finish the writes, and close; blocks.

        Writes that have not begun `within_s` from now are dropped, counted and logged.
        """
        if within_s is not None:
            self._closes_s = min(self._closes_s, time.monotonic() + within_s)
        n_before = self.dropped
        for pool in (self._reader, self._checker):
            pool.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self.database.close()
        if n_dropped := self.dropped - n_before:
            log.warning("%d answers and states are not written to disk: no time", n_dropped)
