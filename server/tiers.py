"""The caches of one server, in all their tiers: opened from the settings, reported, emptied."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from typing import Any

from mlxdeck.server.backends.local.engine.api import Engine, ModelInfo
from mlxdeck.server.backends.local.kv.disk_prefix_cache import DiskPrefixCache
from mlxdeck.server.backends.local.kv.eviction_policy import POLICIES
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.system_prompts import SystemPrompts
from mlxdeck.server.backends.local.scheduler.scheduler import Scheduler
from mlxdeck.server.cache.answers.disk import DiskAnswers
from mlxdeck.server.cache.answers.memory import MemoryAnswers
from mlxdeck.server.cache.answers.tiered import Tier, TieredAnswers
from mlxdeck.server.cache.disk_io import DiskIO
from mlxdeck.server.cache.sqlite_index import SqliteIndex
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.pipeline import Caches

log = logging.getLogger(__name__)

MAX_DISK_BYTES = 20 * 1024**3
FREE_DISK_SHARE = 0.25
EXPIRE_EVERY_S = 60.0
ANSWERS_SHARE = 0.1
"""Of the disk that caches may take; states take the rest."""


class Tiers:
    """Every cache of a server. For the event loop."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        info: ModelInfo,
        scheduler: Scheduler,
        prefix_bytes: int,
    ) -> None:
        """Open all of them; a disk that doesn't work is done without, and that is said."""
        self._settings = settings
        self._scheduler = scheduler
        self.disk: DiskIO | None = None
        self.answers: DiskAnswers | None = None
        self._expired_s = 0.0
        self.notes: list[str] = []
        """What of the caches doesn't work, for the user."""
        age_s = settings.answer_max_age_s
        ram = MemoryAnswers(settings.exact_cache_entries, settings.exact_cache_bytes, age_s)
        states = PrefixCache(engine.states, prefix_bytes, POLICIES[settings.cache_policy]())
        slower: list[Tier] = []
        vault = systems = None
        # A state of another device or window looks alike, and isn't.
        signature = f"{info.signature} {info.device} {settings.max_kv_tokens}"
        if settings.disk_cache:
            try:
                folder, limit = settings.cache_folder, self._disk_bytes()
                self.disk = DiskIO(SqliteIndex(folder))
                answers = DiskAnswers(self.disk, int(limit * ANSWERS_SHARE), age_s)
                room = limit - int(limit * ANSWERS_SHARE)
                vault = DiskPrefixCache(
                    self.disk, folder / "states", engine.states, states, signature, room
                )
                systems = SystemPrompts(self.disk, signature)
                slower.append(answers)
                self.answers = answers
                if self.disk.database.n_damaged:
                    answers.tally.evictions["damaged"] += self.disk.database.n_damaged
            except (OSError, sqlite3.Error) as error:
                vault = systems = None
                self._tell(f"no caches on disk: {error}")
        self.shared = self._open_shared()
        slower += [self.shared] if self.shared is not None else []
        self.caches = Caches(
            TieredAnswers(ram, slower),
            KVCache(engine.states, states, vault, scheduler.run),
            systems,
        )

    def _disk_bytes(self) -> int:
        if self._settings.disk_cache_bytes:
            return self._settings.disk_cache_bytes
        home = self._settings.home
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return min(MAX_DISK_BYTES, int(shutil.disk_usage(home).free * FREE_DISK_SHARE))

    def _open_shared(self) -> Any:
        if not self._settings.shared_cache:
            return None
        # Only who shares answers waits for this import.
        from mlxdeck.server.cache.answers.redis import RedisAnswers

        told = self._settings
        timeout_s, age_s = told.shared_cache_timeout_s, told.answer_max_age_s
        shared = RedisAnswers(
            told.shared_cache, timeout_s, self._tell, age_s, told.shared_cache_secret
        )
        if not shared.has_secret:
            log.warning("the shared cache has no secret: whoever writes to it chooses answers")
        return shared

    def _tell(self, note: str) -> None:
        log.warning("%s", note)
        self.notes = [*self.notes[-9:], note]

    def tick(self) -> None:
        """What has to be done now and then."""
        if (vault := self.caches.states.vault) is not None:
            vault.write_due()
        self.caches.exact.tick()
        if time.monotonic() - self._expired_s > EXPIRE_EVERY_S:
            self._expired_s = time.monotonic()
            self.caches.exact.expire()

    def report(self) -> dict[str, Any]:
        """The body of `GET /v1/cache`: what each tier holds, and what it was good for."""
        exact, states = self.caches.exact, self.caches.states
        body = {"exact": exact.ram.tally.report(len(exact.ram), exact.ram.n_bytes)}
        for tier in exact.slower:
            body[f"exact_{tier.name}"] = tier.tally.report(len(tier), tier.n_bytes)
        ram, cost = states.ram, states.s_per_token
        body["prefix"] = ram.tally.report(len(ram), ram.n_bytes, cost)
        body["prefix"]["max_bytes"] = ram.max_bytes
        if (vault := states.vault) is not None:
            body["prefix_disk"] = vault.tally.report(len(vault), vault.n_bytes, cost)
            n_waiting, waiting_bytes = ram.waiting
            waiting = {"waiting": n_waiting, "waiting_bytes": waiting_bytes}
            body["prefix_disk"] |= waiting | {"given_up": ram.unwritten}
        if self.disk and self.answers:
            waiting_bytes, given_up = self.answers.waiting_bytes, self.answers.dropped
            body["exact_disk"] |= {"waiting_bytes": waiting_bytes, "given_up": given_up}
            for name in ("exact_disk", "prefix_disk"):
                body[name] |= {"working": self.disk.working, "errors": self.disk.errors}
        if self.shared is not None:
            shared = {"working": self.shared.working, "errors": self.shared.errors}
            shared |= {"dropped": self.shared.dropped, "refused": self.shared.refused}
            body["exact_shared"] |= shared
        return body | ({"notes": self.notes} if self.notes else {})

    @property
    def hits(self) -> int:
        """Requests that any tier of exact answers had an answer to."""
        exact = self.caches.exact
        return exact.ram.tally.total.hits + sum(t.tally.total.hits for t in exact.slower)

    @property
    def lookups(self) -> int:
        """Requests that exact answers were looked up for: all of them ask RAM first."""
        total = self.caches.exact.ram.tally.total
        return total.hits + total.misses

    async def clear(self, tier: str) -> dict[str, int]:
        """Forget what a tier holds, or all of them if `tier` is empty; return how many entries.

        Raises:
            BadRequest: There is no such tier.
        """
        exact, states = self.caches.exact, self.caches.states
        names = ["exact", *(f"exact_{each.name}" for each in exact.slower), "prefix"]
        names += ["prefix_disk"] if states.vault is not None else []
        if tier and tier not in names:
            raise BadRequest("tier", f"expected one of {', '.join(names)}, got {tier!r:.50}")
        cleared = {}
        for name in [tier] if tier else names:
            if name == "exact":
                cleared[name] = exact.ram.clear()
            elif name == "prefix":
                n_cleared: list[int] = []
                await self._scheduler.run(lambda: n_cleared.append(states.ram.clear()))  # noqa: B023
                cleared[name] = sum(n_cleared)
            elif name == "prefix_disk" and states.vault is not None:
                cleared[name] = states.vault.clear()
            else:
                (slow,) = [each for each in exact.slower if name == f"exact_{each.name}"]
                cleared[name] = await slow.clear()
        return cleared

    async def close(self, within_s: float | None = None) -> None:
        """Write what is still to be written, and let go of everything. The engine is gone.

        What has not begun to be written `within_s` from now is given up.
        """
        if self.shared is not None:
            await self.shared.close()
        self.caches.exact.tick()
        if (vault := self.caches.states.vault) is not None:
            vault.write_due(everything=True)
        if self.disk:
            await asyncio.to_thread(self.disk.close, within_s)
