"""What a grammar forces, and what it allows behind a draft."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxdeck.server.backends.local.engine.api import Constraint
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars, Processor
from mlxdeck.server.backends.local.engine.mlx.token_masks import TokenMask
from mlxdeck.server.backends.local.engine.mlx.vocabulary import MAX_FORCED_BYTES
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import plan_constraint
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, ToolChoice, ToolSpec, ToolUse
from mlxdeck.server.schemas.normalization import tool_schema
from tests.corpora.tool_turns import tool_turns
from tests.server.backends.local.engine.test_mlx_held import THINKING, tiny
from tests.server.http import running
from tests.zoo.forced import forced_share

N_LOGITS = 512


@cache
def grammars(*, special: bool) -> MlxGrammars:
    """Over bytes and the formats' markers, which are special tokens or text."""
    return MlxGrammars(tiny(special=special))


def allows(mask: TokenMask | None, token: int) -> bool:
    """Whether a token may come."""
    return mask is None or (mask.allowed[token] if token < mask.allowed.size else mask.others)


def same(one: TokenMask | None, other: TokenMask | None) -> bool:
    """Whether two masks allow the same."""
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(one.allowed, other.allowed)) and one.others == other.others


def drawn(processor: Processor, chance: random.Random, n_tokens: int) -> list[int]:
    """Tokens that a processor allows, each of which it saw."""
    found: list[int] = []
    for _ in range(n_tokens):
        mask = processor.mask(N_LOGITS)
        if mask is None or processor.broken:
            break
        found.append(int(chance.choice(np.flatnonzero(mask.allowed))))
        processor.saw(found[-1:])
    return found


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "maxLength": 6},
        "kind": {"enum": ["file", "folder", "fold"]},
        "n": {"type": "integer", "minimum": 1, "maximum": 30},
    },
    "required": ["path", "kind"],
}


def constraint(name: str, *, special: bool, forced: bool) -> Constraint:
    """Of a request with two tools."""
    tools = tuple(ToolSpec(each, "", tool_schema(SCHEMA, "t")) for each in ("look", "lookup"))
    request = ChatRequest(
        *("m", (), (Message("user", (Text("Hi"),)),), Sampling(600), tools),
        ToolChoice("any" if forced else "auto", parallel=False),
    )
    plan = plan_constraint(
        request, FORMATS[name], grammars(special=special), thinking=() if forced else THINKING
    )
    assert plan.constraint is not None
    return plan.constraint


@pytest.mark.parametrize("special", [True, False], ids=["special", "text"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_draft_is_taken_as_far_as_its_masks_allow_it(name: str, special: bool) -> None:
    """Wherever it begins and goes wrong; behind it, what was before is there again."""
    held, chance = grammars(special=special), random.Random(name)
    asked = constraint(name, special=special, forced=True)
    whole = drawn(held.processor(asked), chance, 80)
    processor = held.processor(asked)
    at = 0
    while at < len(whole):
        n_right = min(chance.randrange(6), len(whole) - at)
        draft = whole[at : at + n_right] + [chance.randrange(N_LOGITS)]
        n_taken = processor.takes(draft)
        assert n_right <= n_taken <= len(draft)
        mark = processor.mark()
        told = held.processor(asked)
        told.saw(whole[:at])
        for token in draft[:n_taken]:
            assert same(processor.mask(N_LOGITS), told.mask(N_LOGITS))
            assert allows(told.mask(N_LOGITS), token)
            told.saw([token])
            processor.saw([token])
        wrong = draft[n_taken:]
        assert not wrong or not allows(told.mask(N_LOGITS), wrong[0])
        processor.back(mark)
        untouched = held.processor(asked)
        untouched.saw(whole[:at])
        assert same(processor.mask(N_LOGITS), untouched.mask(N_LOGITS))
        assert processor.forced(9) == untouched.forced(9)
        n_taken = chance.randrange(1, n_right + 2)
        processor.saw(whole[at : at + n_taken])
        at += n_taken
    assert not processor.broken


@pytest.mark.parametrize("name", FORMATS)
def test_going_back_leaves_the_state_of_never_having_gone(name: str) -> None:
    """From anywhere to anywhere, by way of the logits processor, more than once."""
    held, chance = grammars(special=False), random.Random(name)
    asked = constraint(name, special=False, forced=False)
    start = held.vocabulary.encode(f"Hm. {asked.trigger}")
    fresh = held.processor(asked)
    fresh.saw(start)
    whole = start + drawn(fresh, chance, 40)
    processor, logits = held.processor(asked), mx.zeros((1, N_LOGITS))
    processor(mx.array([1]), logits)
    marks = [processor.mark()]
    for n in range(len(whole)):
        processor(mx.array([1, *whole[: n + 1]]), logits)
        marks.append(processor.mark())
    for n in chance.sample(range(len(whole)), 12):
        processor.back(marks[n])
        told = held.processor(asked)
        told.saw(whole[:n])
        for token in whole[n : n + 4]:
            assert same(processor.mask(N_LOGITS), told.mask(N_LOGITS))
            assert processor.forced(9) == told.forced(9)
            assert processor.forced_behind(token, 5) == behind(told, token)
            told.saw([token])
            n += 1
            processor(mx.array([1, *whole[:n]]), logits)


def behind(processor: Processor, token: int) -> list[int]:
    """What is forced behind a token, found by going there."""
    if not processor.holds:
        return []
    mark = processor.mark()
    processor.saw([token])
    found = processor.forced(5)
    processor.back(mark)
    return found


@pytest.mark.parametrize("name", ["json_tags", "harmony", "qwen3_coder"])
def test_a_draft_may_open_a_call(name: str) -> None:
    """Behind the trigger in a draft the grammar counts; in thinking it doesn't."""
    held, asked = grammars(special=False), constraint(name, special=False, forced=False)
    form = FORMATS[name]
    call = form.write_call(ToolUse("", "lookup", {"path": "a", "kind": "fold"}))
    draft = held.vocabulary.encode(f"Well. {call}")
    processor = held.processor(asked)
    assert processor.takes(draft) == len(draft)
    wrong = draft.index(held.vocabulary.encode("f")[0], len(draft) // 2)
    assert processor.takes([*draft[:wrong], held.vocabulary.encode("?")[0]]) == wrong
    thought = held.vocabulary.encode(f"<think>{call[:-9]}???")
    assert processor.takes(thought) == len(thought)


def test_what_has_to_come_is_no_choice() -> None:
    """At the end of the grammar nothing is forced, and nothing where it has no hold."""
    held = grammars(special=False)
    processor = held.processor(Constraint('start: "<ab" /[0-9]/ ">"\n', trigger="!", final=False))
    encode = held.vocabulary.encode
    assert processor.forced(9) == []
    processor.saw(encode("!"))
    assert processor.forced(2) == encode("<a")
    assert processor.forced(9) == encode("<ab")
    processor.saw(encode("<a"))
    assert processor.forced(9) == encode("b")
    processor.saw(encode("b"))
    assert processor.forced(9) == []
    processor.saw(encode("7"))
    assert processor.forced(9) == encode(">")
    processor.saw(encode(">"))
    assert processor.forced(9) == [] and not processor.holds and not processor.broken


def test_a_long_constant_is_cut_into_tokens_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part once: a client that wants a text of its own can't hold up a step."""
    held = grammars(special=False)
    text = "".join(f"{n} apples " for n in range(1_000)) + "-" * 5000
    processor = held.processor(Constraint(f'start: "{text}"\n'))
    asked: list[int] = []
    encode = held.vocabulary.encode

    def watched(raw: bytes | str) -> list[int]:
        asked.append(len(raw))
        return encode(raw)

    monkeypatch.setattr(held.vocabulary, "encode", watched)
    written: list[int] = []
    while forced := processor.forced(16):
        assert processor.mask(N_LOGITS) is not None
        processor.saw(forced)
        written += forced
    assert held.vocabulary.tokenizer.decode_bytes(written) == text.encode()
    assert max(asked) <= MAX_FORCED_BYTES
    # What a part leaves over is cut once more, with the next one.
    assert len(asked) <= 3 * (len(text) // MAX_FORCED_BYTES + 1)


def test_a_third_of_a_call_is_not_sampled() -> None:
    """Over the calls that agents make, in every format."""
    held, turns = grammars(special=False), tool_turns()[::5]
    shares = {name: forced_share(held, name, turns) for name in FORMATS}
    assert min(shares.values()) >= 0.3, shares


def test_a_model_is_forced_to_no_token_that_it_lacks() -> None:
    """Its tokenizer may know more: that ends the answer, and is never read."""
    wrapper = tiny(special=False)
    last = len(wrapper.get_vocab()) - 1
    grammar = Constraint(f'start: "ab" <[{last}]> "c"\n')
    assert MlxGrammars(wrapper).processor(grammar).forced(9)[-2:][0] == last
    processor = MlxGrammars(wrapper, last).processor(grammar)
    written = processor.forced(9)
    assert held_text(wrapper, written) == "ab"
    processor.saw(written)
    assert processor.forced(9) == [] and processor.mask(last) is None
    assert "no token" in processor.broken


@pytest.mark.model
async def test_forced_tokens_are_told(small_model: str, tmp_path: Path) -> None:
    """At the end of a request and in the metrics; with the setting off, nothing is forced."""
    asked = {
        "model": "m",
        "max_tokens": 40,
        "messages": [{"role": "user", "content": "Look."}],
        "tools": [{"name": "look_around", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    }
    told = []
    for forced_spans in (True, False):
        engine = MlxEngine(
            small_model, tmp_path, prefill_chunk_tokens=64, forced_spans=forced_spans
        )
        async with running(engine) as server:
            reply = await server.http.post("/v1/messages", json=asked)
            (end,) = await server.ended(1)
            metrics = (await server.http.get("/metrics")).text
        assert f"mlxdeck_forced_tokens_total {float(end.forced_tokens or 0)}" in metrics
        told.append((reply.json()["content"][0]["name"], end.output_tokens, end.forced_tokens))
    (name, n_tokens, n_forced), plain = told
    assert plain == (name, n_tokens, None) and name == "look_around"
    assert 10 < n_forced < n_tokens


def held_text(wrapper: Any, tokens: list[int]) -> str:
    """What tokens spell."""
    return str(wrapper.decode(tokens))
