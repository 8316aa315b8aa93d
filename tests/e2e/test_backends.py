"""The real Claude Code and the Anthropic SDK with two backends, one of them another server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from mlxdeck.telemetry.schema.events import RequestStart
from tests.e2e.client import claude
from tests.real import Server, serving
from tests.scripted.plans import write_project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROGRAM = "tests.scripted"
FLAGS = ("--model", "scripted-30b", "--tool-format", "json_tags")


@pytest.fixture(scope="module")
def back() -> Iterator[Server]:
    """The other server."""
    with serving(*FLAGS, program=PROGRAM) as running:
        yield running


def front_of(back: Server, home: Path, **settings: str) -> Path:
    """A home whose settings name the other server."""
    home.mkdir(exist_ok=True)
    lines = [f'{name} = "{value}"' for name, value in settings.items()]
    lines += ["[backends.second]", f'url = "{back.url}"']
    (home / "mlxdeck.toml").write_text("\n".join(lines))
    return home


def test_claude_code_goes_on_elsewhere(back: Server, tmp_path: Path) -> None:
    """A task with tools here, the next one of the same conversation there; it stays one session."""
    project = tmp_path / "project"
    write_project(project)
    home = front_of(back, tmp_path / "server")
    with serving(*FLAGS, home=home, program=PROGRAM) as front:
        told = []
        for number, (again, model) in enumerate([((), "here"), (("-c",), "second/there")], 1):
            task = f"Please see to this task. [[feature-{number} {project}]]"
            flags = ("--allowedTools", "Read Edit Bash(ls:*) Bash(wc:*)", "--model", model)
            report = claude(
                front.url, *again, "-p", task, *flags, cwd=project, home=tmp_path / "home",
                max_output_tokens=4000,
            )  # fmt: skip
            assert not report["is_error"], report
            told.append(report["session_id"])
        ends = front.ended(12)
        starts = [line.attrs for line in front.events() if isinstance(line.attrs, RequestStart)]
        beyond = [line.attrs for line in back.events() if isinstance(line.attrs, RequestStart)]
    assert told[0] == told[1] and {start.conversation_id for start in starts} == {told[0]}
    backends = [end.backend for end in ends]
    assert set(backends) == {"local", "second"} and backends == sorted(backends)
    assert {end.outcome for end in ends} == {"ok"}
    # Both called tools, and what was said here went there, calls and results included.
    for name in ("local", "second"):
        assert sum(end.n_tool_calls for end in ends if end.backend == name) >= 5
    n_messages = [start.n_messages for start in starts if start.model == "second/there"]
    # The other server was also asked which API it speaks, by requests without messages.
    assert [start.n_messages for start in beyond if start.n_messages] == n_messages


def test_the_sdk_falls_back(tmp_path: Path) -> None:
    """A prompt that is too long here is answered there, streamed and not, and told as such."""
    with serving("--engine", "echo") as back:
        home = front_of(back, tmp_path / "server", fallback="second")
        with serving(*FLAGS, "--context-tokens", "300", home=home, program=PROGRAM) as front:
            _falls_back(front)


def _falls_back(front: Server) -> None:
    with anthropic.Anthropic(base_url=front.url, api_key="dummy", max_retries=0) as sdk:
        _ask_both_ways(sdk)
    ends = front.ended(2)
    told = [(end.backend, end.fell_back_from, end.fallback_reason) for end in ends]
    assert told == [("second", "local", "window")] * 2
    assert [end.cache_result for end in ends] == ["miss", "exact"]


def _ask_both_ways(sdk: anthropic.Anthropic) -> None:
    asked: list[Any] = [{"role": "user", "content": "word " * 500}]
    whole = sdk.messages.with_raw_response.create(model="claude-x", max_tokens=5, messages=asked)
    assert whole.headers["x-mlxdeck-backend"] == "second"
    with sdk.messages.stream(model="claude-x", max_tokens=5, messages=asked) as stream:
        final = stream.get_final_message()
    texts = [
        getattr(block, "text", "") for each in (final, whole.parse()) for block in each.content
    ]
    assert texts == ["word ", "word "]
