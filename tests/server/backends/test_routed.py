"""Several backends as one server: start, health, models, caches and end of all of them."""

from __future__ import annotations

import asyncio

import pytest

from mlxdeck.server.backends.base import Health
from mlxdeck.server.backends.member import Member
from mlxdeck.server.backends.routed import RoutedBackend
from mlxdeck.server.backends.routing import RoutingTable, Target
from mlxdeck.server.errors import EngineFailed
from mlxdeck.settings.errors import SettingsError
from tests.server.backends.scripted import ScriptedBackend
from tests.server.http import running


def several(*backends: ScriptedBackend, aliases: dict[str, Target] | None = None) -> RoutedBackend:
    """Some backends, the first of them the default one."""
    names = [each.name for each in backends]
    return RoutedBackend(
        [Member(each.name, each) for each in backends],
        RoutingTable(names, Target(names[0]), aliases),
        gives_way_on=frozenset(),
        fallback_wait_s=0.05,
        warmed=names[0],
    )


async def test_each_name_reaches_its_backend() -> None:
    """In one server, over HTTP; the client's own name of the model is in the answer."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    backend = several(a, b, aliases={"gpt-*": Target("b", "big")})
    async with running(backend=backend) as server:
        told = []
        for model in ("anything", "b", "b/x", "gpt-5"):
            answer = await server.ask("hello", model=model)
            body = answer.json()
            told.append((body["model"], answer.headers["x-mlxdeck-backend"]))
            assert body["content"][0]["text"].startswith(answer.headers["x-mlxdeck-backend"])
    assert told == [("anything", "a"), ("b", "b"), ("b/x", "b"), ("gpt-5", "b")]
    assert [chat.model for chat in (*a.asked, *b.asked)] == ["anything", "b"]


async def test_models_of_all_are_listed_so_that_each_reaches_its_backend() -> None:
    """The default one's as they are, others with their backend, aliases as they stand."""
    aliases = {"best": Target("b"), "c-*": Target("b")}
    backend = several(ScriptedBackend("a"), ScriptedBackend("b"), aliases=aliases)
    async with running(backend=backend) as server:
        listed = [each["id"] for each in (await server.http.get("/v1/models")).json()["data"]]
        reached = [(await server.ask("x", model=name)).headers for name in listed]
    assert listed == ["a-model", "b/b-model", "best"]
    assert [headers["x-mlxdeck-backend"] for headers in reached] == ["a", "b", "b"]


async def test_one_that_cannot_start_leaves_the_others_alone() -> None:
    """It is named in the log, in /health and to those who ask for it."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    b.fails = EngineFailed("no such model")
    async with running(backend=several(a, b)) as server:
        assert (await server.ask("hello")).status_code == 200
        refused = await server.ask("hello", model="b/x")
        health = await server.http.get("/health")
        status = (await server.http.get("/v1/status")).json()
        listed = (await server.http.get("/v1/models")).json()["data"]
    assert (refused.status_code, "b: no such model" in refused.text) == (500, True)
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["reason"] == "b: no such model"
    assert status["backends"]["b"]["status"] == "unhealthy" and len(listed) == 1
    assert "the backend b can't start: no such model" in server.said
    assert (a.ended, b.ended) == (["stop", "close"], ["stop"])


async def test_the_default_one_may_be_down_while_others_serve() -> None:
    """Health says so, as most requests will fail."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    a.fails = EngineFailed("no such model")
    async with running(backend=several(a, b)) as server:
        assert (await server.ask("hello")).status_code == 500
        assert (await server.ask("hello", model="b")).status_code == 200
        assert (await server.http.get("/health")).status_code == 503


@pytest.mark.parametrize("error", [EngineFailed("no such model"), SettingsError("tool_format: x")])
async def test_a_server_without_any_backend_does_not_start(error: Exception) -> None:
    """Nor does one whose settings are wrong."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    a.fails = error
    b.fails = error if isinstance(error, EngineFailed) else None
    with pytest.raises(type(error), match=str(error)):
        await several(a, b).start(lambda _: None, None)


async def test_one_that_loads_holds_nobody_else_up() -> None:
    """Others are asked meanwhile; it is degraded, and well once that is there."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    b.goes_on.clear()
    async with running(backend=several(a, b)) as server:
        assert (await server.ask("hello")).status_code == 200
        assert (await server.http.get("/health")).json()["reason"] == "b: loading"
        asking = asyncio.create_task(server.ask("hello", model="b"))
        b.goes_on.set()
        assert (await asking).status_code == 200
        assert (await server.http.get("/health")).json()["status"] == "healthy"


async def test_a_stop_ends_an_unfinished_start() -> None:
    """All are stopped, and what was opened is closed."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    b.goes_on.clear()
    async with running(backend=several(a, b)):
        pass
    assert (a.ended, b.ended) == (["stop", "close"], ["stop"])


async def test_what_all_have_is_added_up() -> None:
    """Activity, details, tiers of caches, and the regular work; one that fails stops no other."""
    a, b = ScriptedBackend("a"), ScriptedBackend("bcd")
    backend = several(a, b)
    await backend.start(lambda _: None, None)
    a.n_active, b.n_active = 2, 3
    assert backend.status.load.active == 5
    assert backend.status.details["a"] and backend.status.details["bcd"]
    assert backend.cache_report() == {"tier": {"entries": 1}, "bcd_tier": {"entries": 3}}
    assert [await backend.clear(tier) for tier in backend.cache_report()] == [1, 3]
    a.tick = b.tick = failing_tick  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        backend.tick()
    del a.tick
    with pytest.raises(ZeroDivisionError):
        backend.tick()
    assert a.n_ticks == 1
    b.health = Health("unhealthy", "it can't be reached")
    assert backend.status.health == Health("degraded", "bcd: it can't be reached")
    a.health = Health("rebuilding")
    assert backend.status.health == Health("rebuilding", "a: rebuilding; bcd: it can't be reached")


def failing_tick() -> None:
    """Fail."""
    _ = 1 // 0


async def test_a_lost_backend_is_the_servers_loss() -> None:
    """The process had better end, so that it can be started again."""
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    backend = several(a, b)
    await backend.start(lambda _: None, None)
    b.lost.set_result("it hangs")
    a.lost.set_result("it hangs, too")
    assert await backend.lost == "b: it hangs"
