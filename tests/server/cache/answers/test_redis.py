"""Answers shared through a real Redis, which is slow, full, gone and back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.cache.answers import redis as tiers
from mlxdeck.server.cache.answers.redis import RedisAnswers
from mlxdeck.telemetry.schema.events import CacheLookup
from tests.real import free_port
from tests.server.cache.answers.test_disk import answer
from tests.server.http import running

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server here")


class Redis:
    """A redis-server of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self.start()

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._folder), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert any("Ready to accept connections" in line for line in self.process.stdout)

    def kill(self) -> None:
        """End it without a goodbye."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    if server.process.poll() is None:
        server.kill()


async def settled(*tiers: RedisAnswers) -> None:
    """Wait until everything is stored."""
    for tier in tiers:
        while tier._pending:
            await asyncio.sleep(0.005)


async def test_what_one_stores_the_other_finds(redis: Redis) -> None:
    """Two instances, one Redis; clearing empties it for both."""
    one, other = (RedisAnswers(redis.url, 1.0, print) for _ in range(2))
    assert await other.get("k") is None
    made = answer()
    one.put("k", made)
    await settled(one)
    assert await other.get("k") == made
    assert (other.tally.total.hits, other.tally.total.misses) == (1, 1)
    assert await one.clear() == 1
    assert await other.get("k") is None
    await one.close()
    await other.close()


async def test_answers_have_an_age_in_redis(redis: Redis) -> None:
    """Redis itself drops them in time; an instance with another limit keeps to its own."""
    forever, week, minute = (RedisAnswers(redis.url, 1.0, print, s) for s in (0.0, 6e5, 60.0))
    old = replace(answer(), made_s=time.time() - 100)
    for key, tier in (("forever", forever), ("week", week), ("minute", minute)):
        tier.put(key, old)
    await settled(forever, week, minute)
    left_s = [await forever._redis.ttl(tiers.PREFIX + key) for key in ("forever", "week")]
    assert left_s[0] == -1 and 6e5 - 200 < left_s[1] < 6e5
    assert await forever.get("minute") is None
    assert await week.get("week") == old and await minute.get("week") is None
    assert minute.gone.why("week") == "expired"
    for tier in (forever, week, minute):
        await tier.close()


async def test_foreign_values_are_misses(redis: Redis) -> None:
    """Whatever stands under the key, it is checked."""
    tier = RedisAnswers(redis.url, 1.0, print)
    await tier._redis.set(tiers.PREFIX + "k", b"garbage")
    assert await tier.get("k") is None
    assert tier.errors == 1
    await tier.close()


async def test_a_slow_redis_costs_its_bound_once(redis: Redis) -> None:
    """The lookup gives up in time; later ones don't even try for a while."""
    said: list[str] = []
    tier = RedisAnswers(redis.url, 0.1, said.append)
    await tier.get("k")
    await tier._redis.execute_command("CLIENT", "PAUSE", "3000")
    began_s = time.monotonic()
    for _ in range(20):
        assert await tier.get("k") is None
    # Twenty bounds would be two seconds: only one was paid. A stuck clock is no matter here.
    assert tier.errors == 1 and time.monotonic() - began_s < 2
    assert said == ["the shared cache does not work: TimeoutError"]
    assert not tier.working
    await tier.close()


async def test_a_full_redis_stores_nothing_and_says_so(redis: Redis) -> None:
    """Refused writes are counted; the password in a URL is in no message."""
    said: list[str] = []
    tier = RedisAnswers(redis.url, 1.0, said.append)
    await tier._redis.config_set("maxmemory", "1mb")
    for n in range(40):
        tier.put(f"k{n}", answer("x" * 200_000))
        await settled(tier)
    assert tier.errors >= 1
    assert said == ["the shared cache does not work: OutOfMemoryError"]
    await tier.close()


async def test_two_servers_share_answers_and_outlive_their_redis(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed under load, Redis takes no request with it; back again, it is used again."""
    monkeypatch.setattr(tiers, "RETRY_S", 0.05)
    flags: dict[str, Any] = {"shared_cache": redis.url, "shared_cache_timeout_s": 1.0}
    async with running(**flags) as one, running(EchoEngine(), **flags) as other:
        await one.ask("hello")
        assert (shared := one.service.caches.shared) is not None
        await settled(shared)
        answered = await other.ask("hello")
        assert answered.headers["x-mlxdeck-cache"] == "hit"
        (lookup,) = other.telemetry.named("cache.lookup")
        assert isinstance(lookup.attrs, CacheLookup) and lookup.attrs.tier == "shared"
        asking = [asyncio.create_task(one.ask(f"under load {n}")) for n in range(40)]
        await asyncio.sleep(0.05)
        redis.kill()
        assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}
        for n in range(5):
            assert (await other.ask(f"without {n}")).status_code == 200
        told = (await other.http.get("/v1/cache")).json()
        assert told["exact_shared"]["working"] is False and told["exact_shared"]["errors"] > 0
        assert "does not work" in told["notes"][0]
        redis.start()
        await asyncio.sleep(0.1)
        await one.ask("again")
        assert (shared := one.service.caches.shared) is not None
        await settled(shared)
        assert (await other.ask("again")).headers["x-mlxdeck-cache"] == "hit"
        assert (await other.http.get("/v1/cache")).json()["exact_shared"]["working"] is True


async def test_an_address_that_is_none_stops_the_start() -> None:
    """A wrong URL is the user's mistake, and is said at once."""
    with pytest.raises(ValueError, match="redis://"):
        RedisAnswers("http://example", 1.0, print)
