"""The real Claude Code gets answers from the real model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlxdeck.telemetry.schema.events import Error
from tests.e2e.client import claude
from tests.real import Server, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# A model of 135M does not always come to an end; the first of these that it ends is taken.
QUESTIONS = ("What is the capital of France? Answer with one word.", "Say hello.", "Say yes.")
RULE = "You answer in one short sentence."


def test_it_gets_an_answer_and_the_same_one_at_once(server: Server, tmp_path: Path) -> None:
    """The small prompt is answered; the identical second run comes from the exact cache."""
    before = len(server.ended())
    for question in QUESTIONS:
        small = ["--bare", "-p", question, "--tools", "", "--system-prompt", RULE]
        first = claude(server.url, *small, cwd=tmp_path)
        if not first["is_error"]:
            break
    assert first["is_error"] is False
    assert first["result"].strip()
    assert first["usage"]["output_tokens"] > 0
    before = len(server.ended(before + 1))
    hits = get(f"{server.url}/health")["cache"]["hits"]
    second = claude(server.url, *small, cwd=tmp_path)
    assert second["result"] == first["result"]
    assert get(f"{server.url}/health")["cache"]["hits"] == hits + 1
    (end,) = server.ended(before + 1)[before:]
    assert (end.cache_result, end.outcome) == ("exact", "ok")
    sessions = {line.session_id for line in server.events() if line.event == "request.end"}
    assert {first["session_id"], second["session_id"]} <= sessions


def test_the_full_prompt_ends_in_a_clear_error(server: Server, tmp_path: Path) -> None:
    """With all 24 tools it is longer than the model's window, and the client is told so."""
    report = claude(server.url, "-p", QUESTIONS[0], cwd=tmp_path)
    assert report["is_error"] is True
    errors = [line.attrs for line in server.events() if isinstance(line.attrs, Error)]
    messages = [error.message for error in errors]
    found = [re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", m) for m in messages]
    assert any(match and int(match[1]) > 10_000 and int(match[2]) == 8191 for match in found)
    assert "too long" in report["result"].lower()
