"""The exact answers of one server, in all their tiers: opened from the settings, and closed."""

from __future__ import annotations

import logging
import sqlite3
import time

from mlxdeck.server.cache.answers.disk import DiskAnswers
from mlxdeck.server.cache.answers.memory import MemoryAnswers
from mlxdeck.server.cache.answers.tiered import Tier, TieredAnswers
from mlxdeck.server.cache.cache_disk import CacheDisk, open_cache_disk
from mlxdeck.server.config.settings import Settings

log = logging.getLogger(__name__)

EXPIRE_EVERY_S = 60.0


class AnswerCaches:
    """Every tier of exact answers, and the disk that states lie on too."""

    def __init__(self, settings: Settings) -> None:
        """Open all tiers; if the disk doesn't work, log a warning and continue without it.

        Any thread; may take seconds.
        """
        self.notes: list[str] = []
        """What of the caches doesn't work, for the user."""
        self._expired_s = 0.0
        age_s = settings.answer_max_age_s
        ram = MemoryAnswers(settings.exact_cache_entries, settings.exact_cache_bytes, age_s)
        slower: list[Tier] = []
        self.disk = self._open_disk(settings)
        self.on_disk: DiskAnswers | None = None
        if self.disk is not None:
            self.on_disk = DiskAnswers(self.disk.disk, self.disk.answers_bytes, age_s)
            slower.append(self.on_disk)
            if n_damaged := self.disk.disk.database.n_damaged:
                self.on_disk.stats.evictions["damaged"] += n_damaged
            if n_outdated := self.disk.disk.database.n_outdated:
                self.on_disk.stats.evictions["other_version"] += n_outdated
        self.shared = None
        if settings.shared_cache:
            # Only who shares answers waits for this import.
            from mlxdeck.server.cache.answers.redis import RedisAnswers

            self.shared = RedisAnswers(
                settings.shared_cache,
                settings.shared_cache_timeout_s,
                self._tell,
                age_s,
                settings.shared_cache_secret,
            )
            slower.append(self.shared)
            if not self.shared.has_secret:
                log.warning(
                    "the shared cache has no secret: every client of the Redis can forge answers"
                )
        self.tiers = TieredAnswers(ram, slower)

    def _open_disk(self, settings: Settings) -> CacheDisk | None:
        if not settings.disk_cache:
            return None
        try:
            return open_cache_disk(settings.cache_folder, settings.disk_cache_bytes)
        except (OSError, sqlite3.Error) as error:
            self._tell(f"no caches on disk: {error}")
            return None

    def _tell(self, note: str) -> None:
        log.warning("%s", note)
        self.notes = [*self.notes[-9:], note]

    def tick(self) -> None:
        """Do regular work, and drop old answers from time to time."""
        self.tiers.tick()
        if time.monotonic() - self._expired_s > EXPIRE_EVERY_S:
            self._expired_s = time.monotonic()
            self.tiers.expire()

    @property
    def hits(self) -> int:
        """Requests that any tier had an answer to."""
        ram = self.tiers.ram.stats.total.hits
        return ram + sum(tier.stats.total.hits for tier in self.tiers.slower)

    @property
    def lookups(self) -> int:
        """Requests that were looked up: all of them ask RAM first."""
        total = self.tiers.ram.stats.total
        return total.hits + total.misses

    async def close(self) -> None:
        """Announce the remaining writes, and close the tiers outside this machine."""
        if self.shared is not None:
            await self.shared.close()
        self.tiers.tick()
