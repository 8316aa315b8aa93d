"""The real Claude Code gets answers from the real model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.client import claude
from tests.real import Server, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUESTION = "What is the capital of France?"
SMALL = ["--bare", "-p", QUESTION, "--tools", "", "--system-prompt", "You are terse."]


def test_it_gets_an_answer_and_the_same_one_at_once(server: Server, tmp_path: Path) -> None:
    """The small prompt is answered; the identical second run comes from the exact cache."""
    before = len([e for e in server.events() if e["event"] == "request.end"])
    hits = get(f"{server.url}/health")["cache"]["hits"]
    first = claude(server.url, *SMALL, cwd=tmp_path)
    assert first["is_error"] is False
    assert "Paris" in first["result"]
    assert first["usage"]["output_tokens"] > 0
    second = claude(server.url, *SMALL, cwd=tmp_path)
    assert second["result"] == first["result"]
    assert get(f"{server.url}/health")["cache"]["hits"] == hits + 1
    ends = server.ended(before + 2)[before:]
    assert [end["mlx.cache.result"] for end in ends] == ["miss", "exact"] or (
        ends[-1]["mlx.cache.result"] == "exact"
    )
    sessions = {e["session_id"] for e in server.events() if e["event"] == "request.end"}
    assert {first["session_id"], second["session_id"]} <= sessions


def test_the_full_prompt_ends_in_a_clear_error(server: Server, tmp_path: Path) -> None:
    """With all 24 tools it is longer than the model's window, and the client is told so."""
    report = claude(server.url, "-p", QUESTION, cwd=tmp_path)
    assert report["is_error"] is True
    refused = [e["attrs"] for e in server.events() if e["event"] == "error"]
    messages = [attrs["message"] for attrs in refused if "too long" in attrs["message"]]
    found = [re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", m) for m in messages]
    assert any(match and int(match[1]) > 10_000 and int(match[2]) == 8191 for match in found)
    assert "too long" in report["result"].lower()
