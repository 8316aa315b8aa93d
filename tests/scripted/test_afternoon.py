"""The recorded afternoon: what its people ask for, and what stands in the recording of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cleaned import PROGRESS_S, cleaned
from tests.scripted.shop import Place, before, files, mends, reply, tasks
from tests.shots import RECORDINGS

FOLDER = "/home/me/shop-api"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Of the recording."""
    return (RECORDINGS / "afternoon.jsonl").read_text(encoding="utf-8").splitlines()


def test_each_mistake_can_be_mended_where_it_is() -> None:
    """What an edit replaces stands in its file once, as people find it."""
    found = {file.path: before(file) for file in files().values()}
    asked = list(mends())
    assert len(asked) == len(set(asked)) > 40
    for text in asked:
        steps = tasks()[text](Place(FOLDER))
        edits = [arguments for step in steps for name, arguments in step.calls if name == "Edit"]
        assert edits
        for edit in edits:
            content = found[edit["file_path"].removeprefix(f"{FOLDER}/")]
            assert content.count(edit["old_string"]) == 1
            assert edit["old_string"] != edit["new_string"]


@pytest.mark.parametrize("text", list(tasks())[::9])
def test_each_answer_leads_to_the_next_step(text: str) -> None:
    """By the prompt alone; what other agents report doesn't begin a task anew."""
    steps = tasks()[text](Place(FOLDER))
    prompt = f"<system>working directory: {FOLDER}\n</system><user>{text}</user>"
    for number, step in enumerate(steps):
        assert reply(prompt + "<assistant>").text == step.text, number
        report = f"<task-notification>{text}</task-notification>"
        prompt += f"<assistant>{step.text}</assistant><user>{report}</user>"
    assert reply(prompt + "<assistant>").text == "That is all of it."


def test_nothing_in_it_is_of_this_machine_or_of_others(lines: list[str]) -> None:
    """Nothing is left to be taken out, and progress is told once a second."""
    assert len(list(cleaned(lines, Path("/nowhere"), theirs=True))) == len(lines)
    whole = "\n".join(lines)
    assert not any(word in whole for word in ("/tmp", "<system-reminder>", "Claude agent"))
    told: dict[tuple[str, str], float] = {}
    for line in map(json.loads, lines):
        if line["event"] == "request.progress":
            state = (line["request_id"], line["attrs"]["mlx.progress.state"])
            assert line["ts"] - told.get(state, 0.0) >= PROGRESS_S
            told[state] = line["ts"]
    assert len(told) > 500


def test_it_holds_what_a_day_with_agents_holds(lines: list[str]) -> None:
    """Sub-agents by name, results of tools and failures, exact repeats, misses, all outcomes."""
    attrs = [(line["event"], line["attrs"]) for line in map(json.loads, lines)]
    starts = [each for event, each in attrs if event == "request.start"]
    ends = [each for event, each in attrs if event == "request.end"]
    results = [each for event, each in attrs if event == "tool_result"]
    assert {each.get("gen_ai.agent.name") for each in starts} >= {"Explore", "general-purpose"}
    assert {each["mlx.dialect"] for each in starts} == {"anthropic", "openai"}
    assert {each["outcome"] for each in ends} == {"ok", "error", "cancelled"}
    assert {each["mlx.cache.result"] for each in ends} == {"miss", "prefix", "exact"}
    assert {each["mlx.tool.failed"] for each in results} == {True, False}
    assert 0 < len(starts) - len(ends) < 8
