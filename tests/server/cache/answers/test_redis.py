"""Answers shared through a real Redis, which is slow, full, gone and back."""

from __future__ import annotations

import asyncio
import hmac
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.cache.answers import redis as tiers
from mlxdeck.server.cache.answers.codec import VERSION, encode
from mlxdeck.server.cache.answers.redis import RedisAnswers, password_of
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
    assert (other.stats.total.hits, other.stats.total.misses) == (1, 1)
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


KEY = "a" * 80
GOOD = encode(answer(), KEY)
USAGE = b'{"input_tokens":1,"cached_tokens":0,"output_tokens":1}'


def signed(body: bytes, key: str = KEY, secret: bytes = b"") -> bytes:
    """Whatever stands there, with the code that makes it an answer of ours."""
    return VERSION + hmac.digest(secret, VERSION + key.encode() + b"\n" + body, "sha256") + body


FOREIGN = {
    "empty": b"",
    "text": b"garbage",
    "nul": b"\0" * 100,
    "not utf-8": b"\xff\xfe" * 50,
    "json": b'{"events": []}',
    "pickle": b"\x80\x04\x95\x00",
    "the version alone": VERSION,
    "an earlier version": b"mlxdeck-answer-2\n" + GOOD[len(VERSION) :],
    "cut off": GOOD[:-1],
    "longer": GOOD + b"x",
    "a flipped bit": GOOD[:-3] + bytes([GOOD[-3] ^ 1]) + GOOD[-2:],
    "another key's": encode(answer(), "b" * 80),
    "signed by another": encode(answer(), KEY, b"theirs"),
    "signed nonsense": signed(b"nonsense"),
    "signed null": signed(b"null"),
    "signed number": signed(b"1e999"),
    "signed list": signed(b"[]"),
    "no events": signed(b'{"cost_s":1,"made_s":1,"events":[]}'),
    "not a number": signed(b'{"cost_s":NaN,"made_s":1,"events":[]}'),
    "no end": signed(b'{"cost_s":1,"made_s":1,"events":[["TextDelta",{"text":"x"}]]}'),
    "an unknown event": signed(b'{"cost_s":1,"made_s":1,"events":[["Evil",{}]]}'),
    "wrong fields": signed(b'{"cost_s":1,"made_s":1,"events":[["Finished",{"reason":7}]]}'),
    "made in the past": signed(
        b'{"cost_s":1,"made_s":-1,"events":[["Finished",{"reason":"end_turn","usage":%s}]]}' % USAGE
    ),
    "deep": signed(b'{"cost_s":1,"made_s":1,"events":' + b"[" * 100_000),
    "long": GOOD + b"x" * (5 * 1024**2),
    "arguments of no call": signed(
        b'{"cost_s":1,"made_s":1,"events":[["ToolCallDelta",{"json":"{}"}],'
        b'["Finished",{"reason":"end_turn","usage":%s}]]}' % USAGE
    ),
    "a lone surrogate": signed(
        b'{"cost_s":1,"made_s":1,"events":[["TextDelta",{"text":"\\ud800"}],'
        b'["Finished",{"reason":"end_turn","usage":%s}]]}' % USAGE
    ),
}


async def test_foreign_values_are_misses(redis: Redis) -> None:
    """Whatever stands under the key, it is checked and counted, and Redis is still asked."""
    said: list[str] = []
    tier = RedisAnswers(redis.url, 1.0, said.append)
    for number, (name, value) in enumerate(FOREIGN.items()):
        await tier._redis.set(tiers.PREFIX + KEY, value)
        assert await tier.get(KEY) is None, name
        # Empty is how Redis says that there is nothing.
        assert tier.refused == tier.errors == number, name
    for n, command in enumerate(("LPUSH", "SADD"), len(FOREIGN)):
        await tier._redis.delete(tiers.PREFIX + KEY)
        await tier._redis.execute_command(command, tiers.PREFIX + KEY, "x")
        assert await tier.get(KEY) is None
        assert tier.refused == n
    assert tier.working and tier.stats.total.misses == len(FOREIGN) + 2
    assert said == [
        "the shared cache holds values that are not believed: not an answer of this version"
    ]
    await tier._redis.delete(tiers.PREFIX + KEY)
    tier.put(KEY, answer())
    await settled(tier)
    assert await tier.get(KEY) == answer()
    await tier.close()


async def test_a_server_answers_beside_foreign_values(redis: Redis) -> None:
    """A request whose key somebody has filled is answered as if there were no cache."""
    flags: dict[str, Any] = {"shared_cache": redis.url, "shared_cache_timeout_s": 1.0}
    async with running(**flags) as server:
        await server.ask("hello")
        shared = server.service.caches.shared
        assert shared is not None
        await settled(shared)
        (key,) = [each async for each in shared._redis.scan_iter()]
        for name, value in FOREIGN.items():
            await shared._redis.set(key, value)
            server.service.caches.tiers.ram.clear()
            reply = await server.ask("hello")
            assert reply.status_code == 200 and reply.json()["content"][0]["text"] == "hello", name
        told = (await server.http.get("/v1/cache")).json()["exact_shared"]
        assert told["refused"] > 0


async def test_a_forged_answer_is_not_believed(redis: Redis) -> None:
    """With a secret, its own or the password of the URL, only who knows it can make answers."""
    one, other = (RedisAnswers(redis.url, 1.0, print, secret=each) for each in ("ours", "theirs"))
    await one._redis.set(tiers.PREFIX + KEY, encode(answer(), KEY))
    assert await one.get(KEY) is None
    other.put(KEY, answer())
    await settled(other)
    assert await one.get(KEY) is None and await other.get(KEY) == answer()
    one.put(KEY, answer("ours"))
    await settled(one)
    assert await one.get(KEY) == answer("ours")
    assert (one.refused, one.has_secret) == (2, True)
    for tier in (one, other):
        await tier.close()


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://host", ""),
        ("redis://:p%40ss@host:1/0", "p@ss"),
        ("rediss://user:secret@host", "secret"),
        ("unix:///run/redis.sock?password=p%20w&db=1", "p w"),
        ("redis://user@host", ""),
    ],
)
def test_the_password_of_an_address(url: str, password: str) -> None:
    """Where it stands in each kind of address that a Redis has."""
    assert password_of(url) == password


@asynccontextmanager
async def foreign(reply: bytes) -> AsyncIterator[str]:
    """The address of something that answers everything with the same bytes, or with none."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(cast("asyncio.Task[None]", asyncio.current_task()))
        with suppress(ConnectionError):
            while await reader.read(100_000):
                writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks)


@pytest.mark.parametrize(
    "reply",
    [b"", b"$-1", b"$abc\r\n", b"$99999999999999999999\r\n", b"*-5\r\n", b"%3\r\n", b"\0" * 64,
     b"+OK\r\n" * 50, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n" * 2000, b":1\r\n" * 9,
     b"$5\r\nhel", b"-ERR " + b"x" * 70_000, b"(" + b"9" * 5000 + b"\r\n", b",nan\r\n" * 9],
)  # fmt: skip
async def test_what_is_no_redis_costs_its_bound(reply: bytes) -> None:
    """Whatever answers at that address, it is a miss and counted; closing doesn't wait for it."""
    async with foreign(reply) as url:
        tier = RedisAnswers(url, 0.05, lambda _: None)
        assert await tier.get(KEY) is None
        tier.put(KEY, answer())
        await settled(tier)
        assert await tier.clear() == 0
        assert (tier.stats.total.hits, tier.stats.total.misses) == (0, 1)
        await asyncio.wait_for(tier.close(), 10)


async def test_a_redis_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write has a time limit: what waits is bounded, and later answers are not even tried."""
    monkeypatch.setattr(tiers, "STORE_TIMEOUT_S", 0.05)
    async with foreign(b"") as url:
        tier = RedisAnswers(url, 0.05, lambda _: None)
        for n in range(100):
            tier.put(f"{n:080}", answer())
        assert (len(tier._pending), tier.dropped) == (tiers.MAX_PENDING, 100 - tiers.MAX_PENDING)
        await asyncio.wait_for(settled(tier), 10)
        assert not tier.working and tier._pending_bytes == 0
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
