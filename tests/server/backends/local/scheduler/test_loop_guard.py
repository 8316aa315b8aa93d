"""Answers that go round in circles are ended; those that repeat themselves for a reason are not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.scheduler.loop_guard import (
    MAX_PERIOD,
    MIN_REPEATS,
    MIN_TOKENS,
    LoopGuard,
)
from tests.corpora.repetitive import repetitions
from tests.real import models_home
from tests.server.backends.local.prompt import tokenizers
from tests.server.http import events, running, until
from tests.zoo.vocabularies import VOCABULARIES, Unavailable

SMOLLM2 = models_home() / "smollm2-135m-instruct" / "tokenizer.json"


def found_at(tokens: list[int]) -> int:
    """How many tokens the guard has seen when it finds a loop; 0 if it finds none."""
    guard = LoopGuard()
    return next((n for n, token in enumerate(tokens, 1) if guard.feed(token)), 0)


def expected_at(tokens: list[int]) -> int:
    """The same by looking at every period for every token."""
    runs = dict.fromkeys(range(1, MAX_PERIOD + 1), 0)
    for place, token in enumerate(tokens):
        for period in runs:
            same = place >= period and tokens[place - period] == token
            runs[period] = runs[period] + 1 if same else 0
            if same and runs[period] + period >= max(MIN_REPEATS * period, MIN_TOKENS):
                return place + 1
    return 0


@given(
    st.integers(1, MAX_PERIOD),
    st.integers(0, 200),
    st.integers(-3, 40),
    st.integers(2, 5),
    st.randoms(use_true_random=False),
)
def test_a_cycle_is_found_with_the_token_that_makes_it_long_enough(
    period: int, n_before: int, n_more: int, n_kinds: int, chance: random.Random
) -> None:
    """Whatever its length and whatever stands before it; no token earlier, none later."""
    before = [chance.randrange(n_kinds) for _ in range(n_before)]
    cycle = [chance.randrange(n_kinds) for _ in range(period)]
    n_tokens = max(MIN_REPEATS * period, MIN_TOKENS) + n_more
    tokens = before + (cycle * (n_tokens // period + 1))[:n_tokens]
    assert found_at(tokens) == expected_at(tokens)


@pytest.mark.parametrize("period", [1, 2, 12, 13, 32, 33, 63, 64])
def test_twenty_times_and_256_tokens_are_a_loop(period: int) -> None:
    """One token less is none, and a cycle of 65 is none however often it stands there."""
    n_tokens = max(MIN_REPEATS * period, MIN_TOKENS)
    tokens = [-1, -2, -3] + [place % period for place in range(n_tokens)]
    assert found_at(tokens) == len(tokens)
    assert found_at([*tokens[:-1], -9] * 3) == 0
    assert found_at(list(range(65)) * 50) == 0


@pytest.fixture(scope="module", params=["smollm2", *VOCABULARIES])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of a model that people run."""
    if request.param == "smollm2":
        if not SMOLLM2.exists():
            pytest.skip("the built-in model has not been fetched yet")
        return Tokenizer.from_file(str(SMOLLM2))
    try:
        found: Tokenizer = tokenizers.tokenizer(request.param).wrapper.backend_tokenizer
    except Unavailable as reason:
        pytest.skip(str(reason))
    return found


def test_what_repeats_itself_for_a_reason_is_no_loop(tokenizer: Tokenizer) -> None:
    """Tables, lists, minified code, base64, hex dumps, rulers, art: none is taken for one.

    What is one cycle for hundreds of tokens still is, as a hundred zeros written out.
    """
    ended = {
        each.name
        for each in repetitions()
        if found_at(tokenizer.encode(each.text, add_special_tokens=False).ids)
    }
    assert ended <= {each.name for each in repetitions() if each.is_one_cycle}


async def test_a_looping_answer_ends_as_its_limit_would_end_it() -> None:
    """Its place is free, its state is kept, telemetry says why, and it is not repeated."""
    engine = EchoEngine(lambda _: "Well: " + "na " * 10_000)
    async with running(engine) as server:
        for n in (1, 2):
            answer = (await server.ask("sing", max_tokens=50_000)).json()
            assert answer["stop_reason"] == "max_tokens"
            assert answer["content"][0]["text"] == "Well: " + ("na " * 100)[: MIN_TOKENS - 1]
            assert answer["usage"]["output_tokens"] == 5 + MIN_TOKENS
            ends = await server.ended(n)
            assert (ends[-1].outcome, ends[-1].ended_by) == ("ok", "loop")
            await until(lambda: server.service.load.active == 0)
        streamed = events((await server.ask("sing", stream=True, max_tokens=50_000)).text)
        assert streamed[-2][1]["delta"]["stop_reason"] == "max_tokens"
        body = {"model": "m", "messages": [{"role": "user", "content": "sing"}]}
        other = (await server.http.post("/v1/chat/completions", json=body)).json()
        assert other["choices"][0]["finish_reason"] == "length"
        assert "mlxdeck_looped_answers_total 4" in (await server.http.get("/metrics")).text
        assert (await server.http.get("/v1/status")).json()["looped"] == 4
        longer = {"role": "assistant", "content": answer["content"][0]["text"]}
        user = {"role": "user", "content": "sing"}
        again = await server.ask("", messages=[user, longer, user], max_tokens=1)
        assert again.json()["usage"]["cache_read_input_tokens"] > MIN_TOKENS


async def test_loops_in_thinking_are_ended_too() -> None:
    """The thought so far is what there is of the answer."""
    async with running(EchoEngine(lambda _: "<think>" + "hm, " * 10_000)) as server:
        answer = (await server.ask("x", max_tokens=50_000, thinking={"type": "adaptive"})).json()
        assert answer["stop_reason"] == "max_tokens"
        assert [block["type"] for block in answer["content"]] == ["thinking"]


async def test_the_guard_can_be_turned_off() -> None:
    """Then the limit of the request is the only one."""
    async with running(EchoEngine(lambda _: "na " * 1_000), loop_guard=False) as server:
        answer = (await server.ask("sing", max_tokens=2_000)).json()
        assert answer["usage"]["output_tokens"] == 2_000
        assert (await server.ended(1))[0].ended_by == ""


A_STRING = {
    "type": "object",
    "properties": {"text": {"type": "string", "pattern": "^a{3000}$"}},
    "required": ["text"],
}


@pytest.mark.model
async def test_a_loop_of_a_real_engine_is_ended_also_where_it_is_held(
    small_model: str, tmp_path: Path
) -> None:
    """A random model that is made to say one letter: free, in a call's string, seeded or greedy."""
    engine = MlxEngine(small_model, tmp_path, prefill_chunk_tokens=512)
    tool = {"name": "Write", "input_schema": A_STRING}
    async with running(engine, prefix_cache_bytes=1 << 26) as server:
        (letter,) = engine.tokenizer.encode("a")
        biased: dict[str, Any] = {"max_tokens": 2_000, "logit_bias": {str(letter): 100}}
        free = (await server.ask("x", temperature=1, seed=3, **biased)).json()
        forced = {"tools": [tool], "tool_choice": {"type": "tool", "name": "Write"}}
        held = (await server.ask("x", temperature=0, **biased, **forced)).json()
        assert free["content"] == [{"type": "text", "text": "a" * MIN_TOKENS}]
        assert "a" * (MIN_TOKENS - 20) in str(held["content"])
        assert free["stop_reason"] == held["stop_reason"] == "max_tokens"
        assert [end.ended_by for end in await server.ended(2)] == ["loop"] * 2
        # The call was cut: it was none.
        assert server.telemetry.named("tool_call") == []
