"""A second model of this machine for a client's small requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server import service
from mlxdeck.server.backend_names import SMALL
from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import Engine
from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.resources import Resources
from mlxdeck.server.backends.local.scheduler import engine_thread
from mlxdeck.server.backends.making import make_backend
from mlxdeck.server.backends.plan import backend_plan
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import SettingsError
from tests.server.backends.local.faults import faulty
from tests.server.http import Running, body, running, until

HAIKU, SONNET = "claude-3-5-haiku-20241022", "claude-sonnet-4-5"
SYSTEM = "You are terse. " * 30


@dataclass
class Both:
    """A server with two models."""

    server: Running
    main: LocalBackend
    small: LocalBackend

    async def ask(self, prompt: str, model: str = SONNET) -> tuple[str, str]:
        """The text of an answer, or of its error, and the backend that it came from."""
        answer = await self.server.ask(prompt, model=model, system=SYSTEM)
        told = answer.json()
        text = told["content"][0]["text"] if "content" in told else told["error"]["message"]
        return text, answer.headers.get("x-mlxdeck-backend", "")


@asynccontextmanager
async def both(
    main: Engine | None = None, small: Engine | None = None, **more: Any
) -> AsyncIterator[Both]:
    """Serve two models, whose engines say the last turn again."""
    told = Settings(engine="echo", small_model="tiny", disk_cache="home" in more, **more)
    resources = Resources(told.prefix_cache_bytes)
    engines = {
        False: main or EchoEngine(context_tokens=20_000),
        True: small or EchoEngine(name="tiny", context_tokens=5_000),
    }
    made: dict[bool, LocalBackend] = {}

    def make(is_small: bool) -> LocalBackend:
        share = told.small_model_share
        made[is_small] = LocalBackend(
            told.of_small_model if is_small else told,
            engines[is_small],
            resources,
            name=SMALL if is_small else "",
            weight=share if is_small else 1 - share,
        )
        return made[is_small]

    backend = make_backend(told, make)
    async with running(backend=backend, small_model="tiny", **more) as server:
        yield Both(server, made[False], made[True])


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick by hand, and rebuild without pauses."""
    monkeypatch.setattr(service, "TICK_S", 3600.0)
    monkeypatch.setattr(engine_thread, "REBUILD_AFTER_S", (0.0, 0.0, 0.0))


async def test_small_names_reach_it_and_all_others_the_first() -> None:
    """By pattern, by its own name, or by the backend's; counted by its own tokenizer too."""
    async with both() as server:
        for model, backend in {
            HAIKU: "small", "Claude-HAIKU-4-5": "small", "tiny": "small", "small": "small",
            "small/tiny": "small", SONNET: "local", "echo": "local", "gpt-5": "local",
        }.items():  # fmt: skip
            assert await server.ask(f"hello {model}", model) == (f"hello {model}", backend)
        assert server.small.scheduler.status.output_tokens > 0
        told = body("x" * 6_000, model=HAIKU)
        counted = await server.server.http.post("/v1/messages/count_tokens", json=told)
        assert counted.json()["input_tokens"] > 6_000


async def test_names_can_be_set() -> None:
    """Other clients have other names for their small model."""
    async with both(small_models="gpt-*-mini,*flash*") as server:
        models = ("gpt-5-mini", "gemini-flash-lite", HAIKU)
        found = [(await server.ask(f"to {model}", model))[1] for model in models]
        assert found == ["small", "small", "local"]


async def test_each_has_its_window_and_is_listed_with_it() -> None:
    """In /v1/models, /v1/status, /metrics and the ready line; a prompt is judged by its own."""
    async with both() as server:
        http = server.server.http
        listed = (await http.get("/v1/models")).json()["data"]
        windows = {each["id"]: each["context_window"] for each in listed}
        assert windows == {"echo": 20_000, "small/tiny": 5_000, "tiny": 5_000}
        long = "some words, and " * 500
        assert "prompt is too long" in (await server.ask(long, HAIKU))[0]
        assert (await server.ask(long, SONNET))[1] == "local"
        status = (await http.get("/v1/status")).json()
        assert {name: each["model"] for name, each in status["backends"].items()} == {
            "local": "echo",
            "small": "tiny",
        }
        assert status["small_model"] == "small/tiny"
        assert [each["name"] for each in status["local_models"]] == ["echo", "small/tiny"]
        figures = (await http.get("/metrics")).text
        assert 'mlxdeck_model_loaded{model="echo"} 1.0' in figures
        assert 'mlxdeck_model_loaded{model="small/tiny"} 1.0' in figures
        assert any("small (tiny)" in line and "ready" in line for line in server.server.said)


async def test_they_share_no_answer() -> None:
    """The same request to the other model is another one."""
    async with both() as server:
        for model in (SONNET, HAIKU):
            first = await server.server.ask("the same", model=model)
            second = await server.server.ask("the same", model=model)
            found = [each.headers["x-mlxdeck-cache"] for each in (first, second)]
            assert found == ["miss", "hit"]


async def test_the_memory_for_states_is_divided() -> None:
    """By the share that is set; both together have what one would have."""
    async with both(prefix_cache_bytes=1_000_000, small_model_share=0.25) as server:
        limits = [each.kv.states.ram.max_bytes for each in (server.main, server.small)]
        assert limits == [750_000, 250_000]


async def test_their_states_on_disk_are_their_own(tmp_path: Path) -> None:
    """The same prompt is computed by each, and found again by each after both were unloaded."""
    async with both(home=tmp_path, unload_after_s=0.05) as server:
        for model in (SONNET, HAIKU):
            await server.ask("one " * 100, model)
        await unloaded(server)
        for model in (SONNET, HAIKU):
            await server.ask("one " * 100 + "two", model)
        ends = await server.server.ended(4)
        assert [end.cache_tier for end in ends] == ["", "", "disk", "disk"]
        report = (await server.server.http.get("/v1/cache")).json()
        assert report["prefix_disk"]["hits"] == report["small_prefix_disk"]["hits"] == 1


async def unloaded(server: Both) -> None:
    """Wait until both are unloaded."""
    for _ in range(2000):
        server.server.service.backend.tick()
        if {each.scheduler.model.state for each in (server.main, server.small)} == {"unloaded"}:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("they are not unloaded")


async def test_each_is_unloaded_by_itself() -> None:
    """The one that is asked stays, or comes back alone."""
    async with both(unload_after_s=0.05) as server:
        await unloaded(server)
        assert await server.ask("hello", HAIKU) == ("hello", "small")
        assert server.main.scheduler.model.state == "unloaded"
        assert server.small.scheduler.model.n_loads == 1
        health = (await server.server.http.get("/health")).json()
        assert health["status"] == "healthy" and not health["model_loaded"]
        assert await server.ask("hello") == ("hello", "local")
        assert server.main.scheduler.model.n_loads == 1


@pytest.mark.parametrize("site", ["step", "insert", "reload", "unload"])
async def test_a_fault_of_one_leaves_the_other_alone(site: str) -> None:
    """Its running answer goes on; only the faulty one is rebuilt, or loaded anew."""
    small, plan = faulty(EchoEngine(name="tiny"))
    text = " ".join(map(str, range(150)))
    async with both(EchoEngine(step_s=0.001), small, unload_after_s=0.05) as server:
        if site in ("reload", "unload"):
            plan.arm(site) if site == "unload" else None
            await unloaded(server)
        running_one = asyncio.create_task(server.ask(text))
        await until(lambda: server.main.scheduler.status.output_tokens > 5)
        if site != "unload":
            plan.arm(site, "system_exit")
        found, _ = await server.ask("small", HAIKU)
        assert plan.hit.is_set() and ("injected" in found or site == "unload")
        assert await running_one == (text, "local")
        assert await server.ask("again", HAIKU) == ("again", "small")
        assert server.main.scheduler.n_rebuilds == 0
        assert (await server.server.http.get("/health")).json()["status"] == "healthy"


async def test_a_hang_of_one_is_told_to_both() -> None:
    """They share the thread: the process would be ended."""
    small, plan = faulty(EchoEngine(name="tiny"))
    async with both(EchoEngine(step_s=0.001), small, stall_s=1) as server:
        for each in (server.main, server.small):
            each.scheduler._watch._stall_s = 0.3
        plan.arm("step", hang=True)
        found = await asyncio.gather(server.ask("small", HAIKU), server.ask("long " * 99))
        assert all("no progress" in text for text, _ in found)
        lost = server.server.service.backend.lost
        assert "no progress" in await asyncio.wait_for(asyncio.shield(lost), 10)
        plan.disarm()


async def test_a_small_model_that_cannot_be_loaded_leaves_the_first() -> None:
    """It is named, and only its own requests fail."""
    small, plan = faulty(EchoEngine(name="tiny"))
    plan.arm("load")
    async with both(small=small) as server:
        assert await server.ask("hello") == ("hello", "local")
        assert "injected" in (await server.ask("hello", HAIKU))[0]
        assert (await server.server.http.get("/health")).json()["status"] == "degraded"
        assert any("small can't start" in line for line in server.server.said)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"small_backend": "ollama"}, "small_backend: small_model answers"),
        ({"backends": {"small": {"kind": "ollama"}}}, "backends.small: this is the name"),
    ],
)
def test_what_contradicts_it_is_refused(more: dict[str, Any], told: str) -> None:
    """With both names in one line."""
    with pytest.raises(SettingsError, match=told):
        backend_plan(Settings(small_model="tiny", **more))


def test_its_settings_are_its_own() -> None:
    """What is said of the first model's files is not meant for it."""
    first = {
        "served_model_name": "mine",
        "context_tokens": 100,
        "chat_template": "x",
        "tool_format": "glm",
        "draft_model": "guesser",
    }
    told = Settings(model="big", small_model="tiny", temperature=0.5, **first).of_small_model  # type: ignore[arg-type]
    assert (told.model, told.small_model, told.temperature) == ("tiny", "", 0.5)
    assert told.served_model_name == told.draft_model == ""
    assert (told.context_tokens, told.chat_template, told.tool_format) == (0, "", "auto")
