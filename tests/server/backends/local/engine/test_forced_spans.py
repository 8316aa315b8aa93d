"""What a grammar forces is written without passes of its own, and the text is the same.

For KV caches of every kind, over a vocabulary of bytes, in which spans are long.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import (
    Constraint,
    KVState,
    Sampled,
    SamplingParams,
    SequenceSpec,
    ThinkingLimit,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.grammars import Processor
from mlxdeck.server.backends.local.engine.speculation.payoff import (
    PassCosts,
    Payoff,
)
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ToolSpec
from tests.server.backends.local.engine.test_mlx_held import ENDS, THINKING, tiny
from tests.zoo.families import FAMILIES
from tests.zoo.models import TINY, n_tokens, write_weights

pytestmark = pytest.mark.model

KINDS = ("llama_plain", "gemma3", "deepseek_v3_plain", "qwen3_5")
UNCUT = ("qwen3_5",)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "file_path": {"type": "string", "maxLength": 6},
        "mode": {"enum": ["content", "count", "files_with_matches"]},
        "limit": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["file_path", "mode", "limit"],
}
TOOLS = [ToolSpec(name, "", SCHEMA) for name in ("read_file", "read_folder")]
CALL = FORMATS["json_tags"].grammar(TOOLS, marked=True) or ""
HELD = Constraint(CALL)
MAX_TOKENS = 260


class FreePasses(PassCosts):
    """As if a pass took its time whatever it reads."""

    def ratio(self, n_rows: int, width: int) -> float:
        """None costs more than another."""
        return 1.0


def folder_of(name: str, folder: Path) -> Path:
    """A family's architecture over bytes."""
    tiny(special=False)._tokenizer.save_pretrained(folder)
    family = FAMILIES[name]
    fields = {**TINY, **family.config, "model_type": family.architecture}
    told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ends = [each["id"] for each in told["added_tokens"] if each["content"] in ENDS]
    fields |= {"vocab_size": n_tokens(folder), "eos_token_id": ends}
    write_weights(folder, family.architecture, fields, seed=7)
    return folder


def loaded(folder: Path, **settings: Any) -> MlxEngine:
    """An engine for which every span pays."""
    settings = {"prompt_lookup": False, **settings}
    engine = MlxEngine(str(folder), folder.parent, prefill_chunk_tokens=64, **settings)
    engine.load(lambda _: None)
    if engine._speculation:
        engine._speculation.payoff = Payoff(FreePasses(0.0))
    return engine


@dataclass
class Engines:
    """The same model with and without forced spans."""

    forcing: MlxEngine
    plain: MlxEngine
    folder: Path


@pytest.fixture(scope="module", params=KINDS)
def engines(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Engines]:
    """A tiny model of a kind of cache."""
    folder = folder_of(request.param, tmp_path_factory.mktemp("model") / request.param)
    made = Engines(loaded(folder), loaded(folder, forced_spans=False), folder)
    yield made
    made.forcing.close()
    made.plain.close()


class Counting:
    """A model that counts its passes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.n_passes = 0

    def __call__(self, *args: Any, **more: Any) -> Any:
        """One pass."""
        self.n_passes += 1
        return self._model(*args, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@dataclass
class Written:
    """One answer."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    n_forced: int = 0
    kept: KVState | None = None


def spec(prompt: list[int], **more: Any) -> SequenceSpec:
    """An answer to a prompt, held to a call if nothing else is told."""
    told = {"constraint": HELD, "sampling": SamplingParams(), **more}
    return SequenceSpec(prompt, 0, None, told.pop("max_tokens", MAX_TOKENS), **told)


def write(engine: MlxEngine, *specs: SequenceSpec) -> tuple[list[Written], int]:
    """The answers, written side by side, and the passes that this took."""
    engine._batch._model = counting = Counting(engine._model)
    uids = [engine.insert(each) for each in specs]
    written = {uid: Written() for uid in uids}
    while not all(each.finish for each in written.values()):
        for step in engine.step():
            if isinstance(step, Sampled):
                one = written[step.uid]
                assert not one.finish
                one.text += step.text
                one.n_forced += step.n_forced
                one.finish, one.kept = step.finish or "", step.kept
                if step.finish is None:
                    one.tokens.append(step.token)
    assert not engine._batch.groups and not engine._batch.prompts
    return [written[uid] for uid in uids], counting.n_passes


PROMPT = list(b"Read it, please.")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_is_the_same_in_fewer_passes(engines: Engines, temperature: float) -> None:
    """More than a third of a call costs no pass, and the state that is left is whole."""
    sampling = SamplingParams(temperature=temperature, seed=5 if temperature else None)
    asked = spec(PROMPT, sampling=sampling)
    (found,), n_passes = write(engines.forcing, asked)
    (told,), n_plain = write(engines.plain, asked)
    assert (found.text, found.finish) == (told.text, told.finish)
    assert found.tokens == told.tokens and told.n_forced == 0
    assert n_plain - n_passes == found.n_forced > len(found.tokens) / 3
    assert found.kept is not None and told.kept is not None
    assert list(found.kept.tokens) == list(told.kept.tokens)
    states = [each.kept.state for each in (found, told) if each.kept is not None]
    follows = [*found.kept.tokens, 65]
    again = [
        SequenceSpec(follows, len(follows) - 1, state, 5, SamplingParams()) for state in states
    ]
    tokens = [write(engines.plain, each)[0][0].tokens for each in again]
    assert tokens[0] == tokens[1]


def test_spans_are_written_beside_free_answers(engines: Engines) -> None:
    """Each row has the text that it has alone; a model with a running state takes its time."""
    free = {"constraint": None, "max_tokens": 40}
    prompts = [PROMPT, list(b"And now"), list(b"What else is there to read, and why?")]
    asked = [spec(prompts[0]), spec(prompts[1], **free), spec(prompts[2])]
    alone = [write(engines.plain, each)[0][0] for each in asked]
    found, n_passes = write(engines.forcing, *asked)
    assert [each.text for each in found] == [each.text for each in alone]
    assert [each.finish for each in found] == [each.finish for each in alone]
    if engines.folder.name not in UNCUT:
        assert found[0].n_forced > 20 and found[2].n_forced > 20
        assert n_passes < max(len(each.tokens) for each in alone)
    assert found[1].n_forced == 0


def test_a_call_that_the_model_begins_is_forced_from_there(engines: Engines) -> None:
    """Behind its trigger, and what follows the call is free again."""
    free = spec(PROMPT, constraint=None, max_tokens=60)
    (told,), _ = write(engines.plain, free)
    decode = engines.plain.tokenizer.wrapper.decode
    trigger = next(text for token in told.tokens[2:] if (text := decode([token])).isascii())
    grammar = 'start: "<the quick brown " ("fox" | "dog") " jumps over it>"\n'
    watched = Constraint(grammar, trigger, final=False)
    (found,), n_passes = write(engines.forcing, spec(PROMPT, constraint=watched, max_tokens=60))
    (plain,), n_plain = write(engines.plain, spec(PROMPT, constraint=watched, max_tokens=60))
    assert "jumps over it>" in found.text
    assert found.text == plain.text and found.tokens == plain.tokens
    assert n_plain - n_passes == found.n_forced > 10


def test_a_call_follows_where_thinking_has_to_end(engines: Engines) -> None:
    """The budget ends the thoughts, and from there on nothing counts as thinking."""
    held = Constraint(CALL, THINKING[1])
    limit = ThinkingLimit(*THINKING, is_open=True, max_tokens=5)
    asked = spec(PROMPT, constraint=held, thinking=limit)
    (found,), n_passes = write(engines.forcing, asked)
    (told,), n_plain = write(engines.plain, asked)
    thoughts, end, call = found.text.partition(THINKING[1])
    assert thoughts and end and call.startswith("<tool_call>") and found.finish == "stop"
    assert found.text == told.text and n_plain - n_passes == found.n_forced > 20


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 17, 18, 40])
def test_a_limit_within_a_span_is_kept(engines: Engines, max_tokens: int) -> None:
    """The answer has as many tokens as it may have, and so has its state."""
    (found,), _ = write(engines.forcing, spec(PROMPT, max_tokens=max_tokens))
    (told,), _ = write(engines.plain, spec(PROMPT, max_tokens=max_tokens))
    assert (found.text, found.finish) == (told.text, "length")
    assert found.kept is not None
    assert len(found.kept.tokens) == len(PROMPT) + max_tokens


def test_a_grammar_that_breaks_within_a_span_ends_its_answer_alone(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, and nothing of it is kept."""
    prompts = [PROMPT, list(b"And now")]
    (told,), _ = write(engines.plain, spec(prompts[1]))
    n_left = [30]
    advance = Processor._advance

    def advanced(self: Processor, token: int) -> None:
        advance(self, token)
        if self._constraint is not HELD and not self._is_copy:
            n_left[0] -= 1
            if not n_left[0]:
                self._break("a limit")

    monkeypatch.setattr(Processor, "_advance", advanced)
    breaking = spec(prompts[0], constraint=Constraint(CALL))
    found, _ = write(engines.forcing, breaking, spec(prompts[1]))
    assert [each.finish for each in found] == ["broken", told.finish]
    assert found[0].kept is None and found[1].text == told.text


def test_what_leaves_within_a_span_leaves_its_state(engines: Engines) -> None:
    """Of the tokens that were read up to then."""
    engine = engines.forcing
    (told,), _ = write(engines.plain, spec(PROMPT))
    for n_steps in range(1, 5):
        uid = engine.insert(spec(PROMPT))
        for _ in range(n_steps):
            engine.step()
        kept = engine.remove(uid)
        assert kept is not None
        whole = [*PROMPT, *told.tokens]
        assert list(kept.tokens) == whole[: len(kept.tokens)]
        asked = [*kept.tokens, 65]
        known = SequenceSpec(asked, len(asked) - 1, kept.state, 5, SamplingParams())
        fresh = SequenceSpec(asked, 0, None, 5, SamplingParams())
        assert write(engines.plain, known)[0][0].tokens == write(engines.plain, fresh)[0][0].tokens
    assert not engine._batch.groups
