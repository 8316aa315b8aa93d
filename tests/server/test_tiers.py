"""The caches of a running server: across restarts, tiers, rules and warm starts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import ModelInfo, Progress, StateDamaged
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.kv.disk_prefix_cache import FOLDER
from mlxdeck.server.warmup import Warmer
from mlxdeck.telemetry.schema.codec import encode
from tests.server.http import Running, running, until

SYSTEM = "You are terse. " * 40


class Renamed(EchoEngine):
    """Another model, as far as any cache can tell."""

    def load(self, progress: Progress) -> ModelInfo:
        """The same with another signature."""
        return replace(super().load(progress), signature="another")


def lookups(server: Running, cache: str) -> list[Any]:
    """What `cache.lookup` said of a cache, in order."""
    attrs: list[Any] = [line.attrs for line in server.telemetry.named("cache.lookup")]
    return [each for each in attrs if each.cache == cache]


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """The answer comes from disk; a new question computes only what is new."""
    async with running(home=tmp_path) as server:
        first = (await server.ask("hello", system=SYSTEM)).json()
        await server.ask("cut off", max_tokens=2)
        await server.ended(2)
    async with running(home=tmp_path) as server:
        cut = await server.ask("cut off", max_tokens=2)
        assert cut.headers["x-mlxdeck-cache"] == "hit"
        assert cut.json()["stop_reason"] == "max_tokens"
    engine = EchoEngine()
    async with running(engine, home=tmp_path) as server:
        again = await server.ask("hello", system=SYSTEM)
        assert again.headers["x-mlxdeck-cache"] == "hit"
        assert again.json()["content"] == first["content"]
        assert engine.n_prefilled_tokens == 0
        other = (await server.ask("and you", system=SYSTEM)).json()
        assert other["usage"]["cache_read_input_tokens"] > len(SYSTEM)
        assert engine.n_prefilled_tokens == other["usage"]["input_tokens"]
        exact, prefix = lookups(server, "exact"), lookups(server, "prefix")
        assert [(each.result, each.tier) for each in exact] == [("hit", "disk"), ("miss", "")]
        assert [(each.result, each.tier) for each in prefix] == [("partial", "disk")]
        told = (await server.http.get("/v1/cache")).json()
        assert told["exact_disk"]["hits"] == told["prefix_disk"]["hits"] == 1
        assert told["exact_disk"]["windows"]["1m"]["hits"] == 1
        health = (await server.http.get("/health")).json()["cache"]
        assert (health["hits"], health["misses"]) == (1, 1)
        cleared = (await server.http.delete("/v1/cache")).json()["cleared"]
        assert set(cleared) == {"exact", "exact_disk", "prefix", "prefix_disk"}
        assert (await server.ask("hello", system=SYSTEM)).headers["x-mlxdeck-cache"] == "miss"


async def test_a_cache_folder_that_cant_be_made_is_done_without(tmp_path: Path) -> None:
    """Serving goes on, and `/v1/cache` says what is wrong."""
    (tmp_path / "cache").write_text("in the way")
    async with running(home=tmp_path) as server:
        assert (await server.ask("hello")).status_code == 200
        told = (await server.http.get("/v1/cache")).json()
        assert "exact_disk" not in told
        assert "no caches on disk" in told["notes"][0]


async def test_every_miss_has_its_reason(tmp_path: Path) -> None:
    """Cold, diverged, evicted, model changed, bypassed, disabled."""
    async with running(home=tmp_path, exact_cache_entries=1, disk_cache=False) as server:
        await server.ask("one", system=SYSTEM)
        await server.ask("two", system=SYSTEM)
        await server.ask("one", system=SYSTEM)
        await server.ask("one", system=SYSTEM, headers={"cache-control": "no-cache"})
        await server.ask("one", system="Completely different. " * 9)
        reasons = [each.miss_reason for each in lookups(server, "exact")]
        assert reasons == ["cold", "cold", "evicted", "bypassed", "cold"]
        prefix = lookups(server, "prefix")
        assert [each.miss_reason for each in prefix] == ["cold", "diverged", "", "", "cold"]
        assert prefix[1].diverged_block == "messages.0"
        assert prefix[1].diverged_at_token == prefix[1].matched_tokens
        assert prefix[1].diverged_hash != prefix[1].diverged_hash_before
    async with running(home=tmp_path) as server:
        await server.ask("one", system=SYSTEM)
    async with running(Renamed(), home=tmp_path) as server:
        await server.ask("one", system=SYSTEM)
        for cache in ("exact", "prefix"):
            assert [each.miss_reason for each in lookups(server, cache)] == ["model_changed"]
    async with running(exact_cache_entries=0, prefix_cache_bytes=1) as server:
        await server.ask("one", system=SYSTEM)
        await server.ask("one", system=SYSTEM)
        assert lookups(server, "exact")[1].miss_reason == "disabled"
        assert lookups(server, "prefix")[1].miss_reason == "evicted"


async def test_a_rule_that_is_off_costs_its_hits() -> None:
    """With the billing header left in, two runs of the client share nothing."""
    for off, expected in (("", ["miss", "hit"]), ("billing_header", ["miss", "miss"])):
        async with running(canonical_off=off) as server:
            found = [
                await server.ask("hi", system=f"x-anthropic-billing-header: cch={n};\n{SYSTEM}")
                for n in range(2)
            ]
            assert [reply.headers["x-mlxdeck-cache"] for reply in found] == expected
            starts: list[Any] = [line.attrs for line in server.telemetry.named("request.start")]
            removed = [start.removed for start in starts]
            assert removed == [() if off else ("billing_header",)] * 2


async def test_warm_prefills_what_a_file_holds(tmp_path: Path) -> None:
    """One request a line; broken lines are named; the first question finds its system prompt."""
    given = tmp_path / "prompts.jsonl"
    given.write_text(json.dumps({"system": SYSTEM}) + '\nnot json\n{"system": 7}\n[]\n')
    engine = EchoEngine()
    async with running(engine, warm=str(given)) as server:
        await until(lambda: any("ready" in line and "warm" in line for line in server.said))
        said = [line for line in server.said if "warm" in line]
        assert [", line " in line for line in said] == [True, True, True, False, False]
        computed = engine.n_prefilled_tokens
        reply = (await server.ask("hello", system=SYSTEM)).json()
        assert reply["usage"]["cache_read_input_tokens"] >= len(SYSTEM)
        assert engine.n_prefilled_tokens == computed + reply["usage"]["input_tokens"]


async def test_a_prompt_that_fails_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, it is counted, and the next one is prefilled."""
    given = tmp_path / "prompts.jsonl"
    given.write_text("".join(json.dumps({"system": f"{n}{SYSTEM}"}) + "\n" for n in range(2)))
    prefill = Warmer._prefill

    async def failing(warmer: Warmer, tokens: list[int]) -> None:
        monkeypatch.setattr(Warmer, "_prefill", prefill)
        raise ZeroDivisionError

    monkeypatch.setattr(Warmer, "_prefill", failing)
    async with running(EchoEngine(), warm=str(given)) as server:
        await until(lambda: any("ready" in line and "warm" in line for line in server.said))
        assert [line.split(",")[0] for line in server.said if "tokens: ready" in line] == [
            "warm: system prompt 2 of 2"
        ]
        assert server.service.upkeep.errors == 1


async def test_warm_prefills_what_was_seen_most(tmp_path: Path) -> None:
    """By telemetry's counts, of the prompts whose tokens are known; from disk, or computed."""
    async with running(home=tmp_path) as server:
        for n in range(3):
            await server.ask(f"hello {n}", system=SYSTEM)
        await server.ask("hello", system="Seldom used. " * 30)
        (tmp_path / "telemetry").mkdir()
        lines = [
            encode(line.attrs, ts=1.0, mono=1.0, seq=1, pid=1)
            for line in server.telemetry.named("request.start")
            if line.attrs is not None
        ]
        (tmp_path / "telemetry" / "mlxdeck-20260101-000000-1.jsonl").write_bytes(
            b"".join(lines) + b"torn"
        )
        await server.http.delete("/v1/cache", params={"tier": "prefix_disk"})
    engine = EchoEngine()
    async with running(engine, home=tmp_path, warm="recent", warm_prompts=1) as server:
        await until(lambda: any("ready" in line and "warm" in line for line in server.said))
        assert "1 of 1" in "".join(server.said)
        computed = engine.n_prefilled_tokens
        assert computed > len(SYSTEM)
        reply = (await server.ask("new", system=SYSTEM)).json()
        assert reply["usage"]["cache_read_input_tokens"] >= len(SYSTEM)


async def test_warm_gives_way(tmp_path: Path) -> None:
    """A request that comes during a warm prefill is not queued behind it; then it goes on."""
    given = tmp_path / "prompts.jsonl"
    long = "Warm me up. " * 400
    given.write_text(json.dumps({"system": long}))
    engine = EchoEngine(step_s=0.02, prefill_chunk_tokens=64)
    async with running(engine, warm=str(given)) as server:
        await until(lambda: engine.n_prefilled_tokens > 0)
        assert (await server.ask("quick")).status_code == 200
        assert not any("ready" in line and "warm" in line for line in server.said)
        await until(lambda: any("ready" in line and "warm" in line for line in server.said))
        # Nothing but the chunk that was under way has been computed twice.
        assert engine.n_prefilled_tokens < len(long) + 1000


async def test_a_state_that_comes_to_nothing_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is whole but can't be loaded is removed, and the prompt is read as if new."""
    async with running(home=tmp_path) as server:
        await server.ask("hello", system=SYSTEM)
    engine = EchoEngine()

    def refuse(about: str, data: object) -> None:
        raise StateDamaged("the bytes hold no state")

    monkeypatch.setattr(engine.states, "restore", refuse, raising=False)
    async with running(engine, home=tmp_path) as server:
        reply = (await server.ask("other", system=SYSTEM)).json()
        assert reply["usage"]["cache_read_input_tokens"] == 0
        assert reply["content"][0]["text"] == "other"
        told = (await server.http.get("/v1/cache")).json()
        assert told["prefix_disk"]["evictions"] == {"damaged": 1}


async def test_an_answer_has_an_age_in_every_tier(tmp_path: Path) -> None:
    """Too old, it is generated again, also after a restart with a shorter limit."""
    async with running(home=tmp_path) as server:
        await server.ask("hello")
        await server.ended(1)
    async with running(home=tmp_path, answer_max_age_s=0.001) as server:
        for reason in ("expired", "expired"):
            answered = await server.ask("hello")
            assert answered.headers["x-mlxdeck-cache"] == "miss"
            assert lookups(server, "exact")[-1].miss_reason == reason
            await asyncio.sleep(0.002)
        told = (await server.http.get("/v1/cache")).json()
        assert told["exact_disk"]["evictions"] == {"expired": 2}


async def test_a_setting_that_draws_answers_is_in_their_keys(tmp_path: Path) -> None:
    """Told otherwise, a server answers anew; told the same again, as before."""
    for flags, cache in (
        ({}, "miss"),
        ({"temperature": 0.5}, "miss"),
        ({"max_output_tokens": 100}, "miss"),
        ({"max_kv_tokens": 100}, "miss"),
        ({"canonical_off": "schema_order"}, "miss"),
        ({}, "hit"),
    ):
        async with running(home=tmp_path, **flags) as server:
            assert (await server.ask("hello")).headers["x-mlxdeck-cache"] == cache
            await server.ended(1)


def change_all(index: Path, value: object) -> None:
    """Put a value into every column of every table that takes it, one row after another."""
    with closing(sqlite3.connect(index)) as connection, connection:
        for table in ("answers", "runs", "systems", "totals"):
            columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
            for column in columns:
                with suppress(sqlite3.IntegrityError):
                    connection.execute(f"update {table} set {column} = ?", (value,))


@pytest.mark.parametrize("value", ["../../precious", b"\xff\x00", -7, 1 << 62, 0.5])
async def test_a_hostile_index_costs_misses_only(
    tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in it, before the start or meanwhile: healthy, answering, nothing touched."""
    precious = tmp_path / "precious"
    precious.write_text("dear")
    index = tmp_path / "cache" / "cache.sqlite"
    async with running(home=tmp_path) as server:
        await server.ask("hello", system=SYSTEM)
    change_all(index, value)
    async with running(home=tmp_path, warm="recent") as server:
        for prompt in ("hello", "another", "hello"):
            assert (await server.ask(prompt, system=SYSTEM)).status_code == 200
        change_all(index, value)
        await server.http.delete("/v1/cache", params={"tier": "exact"})
        for prompt in ("hello", "a third"):
            assert (await server.ask(prompt, system=SYSTEM)).status_code == 200
        assert (await server.http.delete("/v1/cache")).status_code == 200
        assert (await server.ask("hello", system=SYSTEM)).status_code == 200
        assert (await server.http.get("/health")).json()["status"] == "healthy"
        assert (await server.http.get("/v1/cache")).status_code == 200
    assert precious.read_text() == "dear"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("link", ["cache", "cache/states", f"cache/{FOLDER}", "cache/cache.sqlite"])
async def test_a_link_in_the_home_is_not_followed(tmp_path: Path, link: str) -> None:
    """What it leads to stays as it is, old files of any name included; requests are answered."""
    home, precious = tmp_path / "home", tmp_path / "precious"
    home.mkdir()
    precious.mkdir()
    names = ["notes.txt", f"{'a' * 64}.safetensors", "cache.sqlite", f".{'b' * 64}-1.safetensors"]
    names += [f"{'a' * 64}.kv", f".{'b' * 64}-1.kv"]
    for name in names:
        (precious / name).write_text("dear")
        os.utime(precious / name, (1, 1))
    (home / link).parent.mkdir(exist_ok=True)
    target = precious / "cache.sqlite" if link.endswith("sqlite") else precious
    (home / link).symlink_to(target)
    async with running(home=home) as server:
        for prompt in ("hello", "hello"):
            assert (await server.ask(prompt, system=SYSTEM)).status_code == 200
        assert (await server.http.get("/health")).json()["status"] == "healthy"
        assert (await server.http.delete("/v1/cache")).status_code == 200
    assert sorted(path.name for path in precious.iterdir()) == sorted(names)
    assert {path.read_text() for path in precious.iterdir()} == {"dear"}
