"""The real Claude Code with a small model beside the first, and with models that are unloaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.telemetry.schema.events import ModelLoad, ModelUnload
from tests.e2e.client import claude
from tests.e2e.test_sessions import SMALL, run
from tests.real import Server, get, serving
from tests.zoo.models import build

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MAX_LEFT_BYTES = 1 << 16
"""Of MLX's memory, once no model is loaded."""


def states(server: Server) -> dict[str, str]:
    """Each model and whether it is loaded."""
    models: list[dict[str, Any]] = get(f"{server.url}/v1/status")["local_models"]
    return {each["name"]: each["state"] for each in models}


def unloaded(server: Server) -> None:
    """Wait until no model is loaded."""
    for _ in range(300):
        if set(states(server).values()) == {"unloaded"}:
            return
        time.sleep(0.1)
    raise AssertionError(f"they are not unloaded: {states(server)}")


def test_its_haiku_is_the_small_model(tmp_path: Path) -> None:
    """Each request is answered by the model that its name leads to; both are told of."""
    folder = build(tmp_path / "tiny", "llama", "qwen3")
    with serving("--small-model", str(folder), home=tmp_path / "home") as server:
        assert any("ready on" in line and "small (tiny)" in line for line in server.output)
        port = int(server.url.rpartition(":")[2])
        for arguments, served in ((SMALL, "smollm2"), (["--model", "haiku", *SMALL], "tiny")):
            before = len(server.ended())
            run(tmp_path / "home", "claude", port, *arguments)
            assert {end.model for end in server.ended(before + 1)[before:]} == {served}
        listed = {
            each["id"]: each["context_window"] for each in get(f"{server.url}/v1/models")["data"]
        }
        assert listed["smollm2"] == 8192 and listed["small/tiny"] == 32_768


def test_a_session_goes_on_after_the_model_was_unloaded(tmp_path: Path) -> None:
    """Its memory falls, its prompt comes back from disk, and an identical run needs no model."""
    bare = ["--bare", "--tools", "Read", "-p"]
    with serving("--unload-after-s", "3", "--ping-s", "0.2", home=tmp_path) as server:
        claude(server.url, *bare, "Say hello.", cwd=tmp_path, max_output_tokens=20)
        n_first = len(server.ended(1))
        unloaded(server)
        memory = get(f"{server.url}/v1/status")["memory"]
        assert memory["active_bytes"] < MAX_LEFT_BYTES and not memory["prefix_cache_bytes"]
        claude(server.url, *bare, "Say hello.", cwd=tmp_path, max_output_tokens=20)
        assert states(server) == {"smollm2": "unloaded"}
        assert {end.cache_result for end in server.ended(n_first + 1)[n_first:]} == {"exact"}
        n_known = len(server.ended())
        claude(server.url, *bare, "Say goodbye.", cwd=tmp_path, max_output_tokens=20)
        end = server.ended(n_known + 1)[n_known]
        assert (end.outcome, end.cache_tier) == ("ok", "disk")
        assert end.load_s and end.cached_tokens and end.input_tokens
        assert end.cached_tokens > 0.8 * end.input_tokens
        unloaded(server)
        # Events come with the ticks.
        time.sleep(1.5)
        attrs = [line.attrs for line in server.events()]
        assert sum(isinstance(each, ModelLoad) for each in attrs) == 1
        assert sum(isinstance(each, ModelUnload) for each in attrs) == 2
        assert server.stop() == 0
