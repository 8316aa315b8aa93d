"""A model that follows a script says what is due, behind the real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripted.engine import ScriptedEngine
from tests.scripted.plans import FINISHED, PLANS, reply
from tests.scripted.words import WordTokenizer
from tests.server.http import running

FOLDER = "/home/me/project"


@given(st.text(), st.text())
def test_words_are_the_text_and_the_same_everywhere(before: str, after: str) -> None:
    """Tokens are told apart by their text alone, and a turn's tag ends what stands before it."""
    tokenizer, other = WordTokenizer(), WordTokenizer()
    text = f"{before}<user>{after}"
    tokens, ends = tokenizer.encode_with_ends(text)
    assert tokenizer.decode(tokens) == text
    assert tokens == other.encode(text) == other.encode(f"{before}<user>") + other.encode(after)
    assert len(ends) == len(tokens)
    assert ends[-1] == len(text)


def prompt(kind: str, n_answers: int) -> str:
    """A conversation so far, in which an agent was started with a task of its own."""
    turns = [f"<user>Please. [[{kind}-1 {FOLDER}]]</user>"]
    for number in range(n_answers):
        turns.append(f"<assistant>Another agent: [[look-{number} {FOLDER}]]</assistant>")
        turns.append("<user><tool_response>\nsome result\n</tool_response></user>")
    return "".join(turns) + "<assistant>"


@pytest.mark.parametrize("kind", PLANS)
def test_each_answer_leads_to_the_next_step(kind: str) -> None:
    """By the prompt alone, the same each time; and every script comes to its end."""
    said = [reply(prompt(kind, n)) for n in range(20)]
    assert said == [reply(prompt(kind, n)) for n in range(20)]
    assert said[0].text != FINISHED
    assert said[-1].text == FINISHED
    n_steps = [answer.text for answer in said].index(FINISHED)
    assert len({answer.place for answer in said[:n_steps]}) == n_steps


async def test_it_answers_behind_the_real_server() -> None:
    """Calls, results and the last word; the prompt is known from the second turn on."""
    engine = ScriptedEngine(reply, "scripted", prefill_tokens_per_s=1e9, decode_tokens_per_s=1e6)
    tools = [
        {"name": name, "input_schema": {"type": "object"}}
        for name in ("Agent", "Bash", "Edit", "Read")
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"See: [[look-1 {FOLDER}]]"}]
    called = []
    async with running(engine, tool_format="json_tags") as server:
        while True:
            answer = (await server.ask("", messages=messages, tools=tools)).json()
            calls = [block for block in answer["content"] if block["type"] == "tool_use"]
            if not calls:
                break
            called += [call["name"] for call in calls]
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": json.dumps("fine")}
                for call in calls
            ]
            messages.append({"role": "assistant", "content": answer["content"]})
            messages.append({"role": "user", "content": results})
    assert called == ["Bash", "Read", "Read", "Read"]
    assert answer["usage"]["cache_read_input_tokens"] > 0.8 * answer["usage"]["input_tokens"]
    assert "declares" in answer["content"][-1]["text"]


@pytest.mark.parametrize("fault", ["crash", "broken"])
async def test_a_fault_happens_once(fault: str) -> None:
    """The first answer fails in its middle, the next one is whole."""
    engine = ScriptedEngine(reply, "scripted", prefill_tokens_per_s=1e9, decode_tokens_per_s=1e6)
    messages = [
        {"role": "user", "content": f"See: [[{fault}-1 {FOLDER}]]"},
        {"role": "assistant", "content": "I read it."},
        {"role": "user", "content": "And?"},
    ]
    async with running(engine) as server:
        first = await server.ask("", messages=messages)
        second = await server.ask("", messages=messages)
    assert (first.status_code, second.status_code) == (500, 200)
