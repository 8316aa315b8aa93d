"""Requests that used to fail, and others of their kinds, against real servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.models.loader import BUILTIN, resolve
from tests.cases.judge import judge, post
from tests.cases.variants import all_variants
from tests.real import Server, models_home, serving
from tests.zoo.conversations import CONVERSATIONS, body

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
EXAMPLES: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted((HERE / "requests").glob("*.json"))
}
STRICT = sorted(file.name for file in (HERE / "templates").glob("template_*.jinja"))


@contextmanager
def with_template(folder: Path, name: str = "") -> Iterator[Server]:
    """A server of the built-in model, with a chat template of `templates/`."""
    built_in = resolve(BUILTIN, models_home(), lambda _: None).path
    for file in built_in.iterdir():
        (folder / file.name).symlink_to(file)
    if name:
        shutil.copyfile(HERE / "templates" / name, folder / "chat_template.jinja")
    with serving("--model", str(folder)) as server:
        yield server


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(
            {name: case for name, case in EXAMPLES.items() if "template" not in case},
            id="examples",
            marks=pytest.mark.e2e,
        ),
        # Many, for a model that is not all that small.
        pytest.param(dict(all_variants()), id="variants", marks=pytest.mark.e2e),
    ],
)
def test_what_needs_no_particular_template(
    cases: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Each example, and each variant of its kind, is answered as it should be."""
    with with_template(tmp_path) as server:
        wrong = {name: found for name, case in cases.items() if (found := judge(server.url, case))}
    assert wrong == {}


TOO_LONG = {"long result"}
"""For the window of the built-in model."""


@pytest.mark.e2e
@pytest.mark.parametrize("template", STRICT)
def test_strict_templates_take_what_clients_send(template: str, tmp_path: Path) -> None:
    """The examples for this template, and every history of the zoo's."""
    with with_template(tmp_path, template) as server:
        wrong = {
            name: found
            for name, case in EXAMPLES.items()
            if case.get("template") == template and (found := judge(server.url, case))
        }
        for name in CONVERSATIONS.keys() - TOO_LONG:
            case = {"path": "/v1/messages", "body": body(name, max_tokens=2), "check": {}}
            if found := judge(server.url, case):
                wrong[name] = found
    assert wrong == {}


def test_effort_and_arguments_reach_the_template(tmp_path: Path) -> None:
    """In the words of either API, and in those that other servers know."""
    ask = {"model": "local", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi."}]}
    chat, messages = "/v1/chat/completions", "/v1/messages"
    with with_template(tmp_path, "effort.jinja") as server:

        def n_prompt(path: str, **fields: Any) -> int:
            usage = post(server.url, path, {**ask, **fields}).body["usage"]
            # Anthropic's API counts what came from a cache by itself.
            known = usage.get("cache_read_input_tokens", 0)
            new = usage.get("cache_creation_input_tokens", 0)
            return int(usage.get("prompt_tokens") or usage["input_tokens"] + known + new)

        low, high = n_prompt(chat, reasoning_effort="low"), n_prompt(chat, reasoning_effort="high")
        assert high - low == 20
        assert n_prompt(messages, output_config={"effort": "high"}) == high
        given = {"reasoning_effort": "high"}
        assert n_prompt(chat, chat_template_kwargs=given) == high
        assert n_prompt(chat, chat_template_kwargs={"custom_flag": True}) >= n_prompt(chat) + 40
