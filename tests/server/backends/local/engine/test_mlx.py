"""The real engine: the same words as mlx-lm's own loop, however it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    ModelInfo,
    Prefilled,
    Sampled,
    SamplingParams,
    SequenceSpec,
)
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.kv.token_bytes import pack
from mlxdeck.server.errors import EngineFailed
from tests.real import models_home

pytestmark = pytest.mark.model

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
STORY = "<|im_start|>user\nTell me about the sea.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def smollm2() -> Iterator[tuple[MlxEngine, ModelInfo]]:
    """The built-in model, loaded once; every test uses it from the one thread that pytest has."""
    engine = MlxEngine("smollm2", models_home(), prefill_chunk_tokens=16)
    info = engine.load(lambda _: None)
    yield engine, info
    engine.close()


@pytest.fixture(scope="module")
def small(small_model: str) -> Iterator[MlxEngine]:
    """A small model, loaded once."""
    engine = MlxEngine(small_model, models_home(), prefill_chunk_tokens=16)
    engine.load(lambda _: None)
    yield engine
    engine.close()


@pytest.fixture
def engine(small: MlxEngine) -> MlxEngine:
    """The small model, without sequences of an earlier test."""
    small.reset()
    return small


def run(engine: MlxEngine, prompt: str, max_tokens: int = 24) -> SequenceSpec:
    """A greedy run from nothing."""
    return SequenceSpec(engine.tokenizer.encode(prompt), 0, None, max_tokens, SamplingParams())


def finish(engine: MlxEngine, *uids: int) -> dict[int, tuple[str, str, KVState]]:
    """Step until all are done: their text, why they ended, what they left behind."""
    texts = dict.fromkeys(uids, "")
    done: dict[int, tuple[str, str, KVState]] = {}
    while len(done) < len(uids):
        for step in engine.step():
            if isinstance(step, Sampled):
                texts[step.uid] += step.text
                if step.finish:
                    assert step.kept is not None
                    done[step.uid] = (texts[step.uid], str(step.finish), step.kept)
    return done


def one(engine: MlxEngine, asked: SequenceSpec) -> tuple[str, str, KVState]:
    """The same for one run."""
    uid = engine.insert(asked)
    return finish(engine, uid)[uid]


def test_what_is_loaded_is_told(smollm2: tuple[MlxEngine, ModelInfo]) -> None:
    """Window, greedy defaults, and a signature that stays the same."""
    _, info = smollm2
    assert (info.name, info.context_tokens, info.temperature) == ("smollm2", 8192, 0.0)
    assert len(info.signature) == 64


def test_the_built_in_model_answers(smollm2: tuple[MlxEngine, ModelInfo]) -> None:
    """In chunks, with the right words, and it ends by itself."""
    engine = smollm2[0]
    assert one(engine, run(engine, PROMPT))[:2] == ("The capital of France is Paris.", "stop")


def test_greedy_text_is_mlx_lms_own(engine: MlxEngine) -> None:
    """Chunked and batched, two sequences say what mlx-lm's simple loop says of each."""
    from mlx_lm import generate

    uids = [engine.insert(run(engine, text)) for text in (PROMPT, STORY)]
    ended = finish(engine, *uids)
    for uid, text in zip(uids, (PROMPT, STORY), strict=True):
        tokens = engine.tokenizer.encode(text)
        wrapper = engine.tokenizer.wrapper
        assert ended[uid][0] == generate(engine._model, wrapper, tokens, max_tokens=24)
    assert ended[uids[0]][0] != ended[uids[1]][0]
    assert {ended[uid][1] for uid in uids} == {"length"}


@pytest.mark.parametrize("n_shared", [1, 7, 12, 15])
def test_a_cached_prefix_changes_nothing(engine: MlxEngine, n_shared: int) -> None:
    """From a state that parts after any number of tokens, the text is that of a cold run."""
    cold = one(engine, run(engine, PROMPT))
    cache = PrefixCache(engine.states, 1 << 30)
    other = [*run(engine, PROMPT).tokens[:n_shared]] + engine.tokenizer.encode(" and so on")
    _, _, kept = one(engine, SequenceSpec(other, 0, None, 4, SamplingParams()))
    cache.add(pack(kept.tokens), kept.state, 0)
    asked = run(engine, PROMPT)
    lease = cache.lease(asked.tokens)
    assert lease.n_cached >= n_shared
    warm = one(
        engine, SequenceSpec(asked.tokens, lease.n_cached, lease.state, 24, SamplingParams())
    )
    assert warm[:2] == cold[:2]
    assert list(warm[2].tokens) == list(cold[2].tokens)


def test_the_whole_prompt_is_never_a_hit(engine: MlxEngine) -> None:
    """One token is left to run, also when exactly this prompt and answer are known."""
    cold = one(engine, run(engine, PROMPT))
    cache = PrefixCache(engine.states, 1 << 30)
    cache.add(pack(cold[2].tokens), cold[2].state, 0)
    tokens = run(engine, PROMPT).tokens
    lease = cache.lease(tokens)
    assert lease.n_cached == len(tokens) - 1
    assert (
        one(engine, SequenceSpec(tokens, lease.n_cached, lease.state, 24, SamplingParams()))[0]
        == cold[0]
    )


def test_what_was_read_before_a_cancel_is_resumed(engine: MlxEngine) -> None:
    """Removed in the middle of its prefill, a run leaves a part that the retry goes on from."""
    asked = run(engine, STORY + "More. " * 20)
    cold = one(engine, asked)
    uid = engine.insert(asked)
    (step,) = engine.step()
    assert isinstance(step, Prefilled) and 0 < step.done_tokens < step.total_tokens
    kept = engine.remove(uid)
    assert kept is not None and len(kept.tokens) == step.done_tokens
    cache = PrefixCache(engine.states, 1 << 30)
    cache.add(pack(kept.tokens), kept.state, 0)
    lease = cache.lease(asked.tokens)
    assert lease.n_cached == step.done_tokens
    assert (
        one(engine, SequenceSpec(asked.tokens, lease.n_cached, lease.state, 24, SamplingParams()))[
            0
        ]
        == cold[0]
    )
    assert engine.step() == []


def test_a_run_that_never_began_leaves_nothing(engine: MlxEngine) -> None:
    """Removed before its first step, and removed twice."""
    uid = engine.insert(run(engine, PROMPT))
    assert engine.remove(uid) is None
    assert engine.remove(uid) is None


def test_sampling_differs_where_greedy_does_not(engine: MlxEngine) -> None:
    """Runs with a temperature share a batch with greedy ones, which stay what they were."""
    greedy = one(engine, run(engine, STORY))[0]
    hot = SequenceSpec(engine.tokenizer.encode(STORY), 0, None, 24, SamplingParams(1.5, 0.95, 50))
    uids = [engine.insert(run(engine, STORY)), *(engine.insert(hot) for _ in range(2))]
    ended = finish(engine, *uids)
    assert ended[uids[0]][0] == greedy
    assert len({ended[uid][0] for uid in uids}) > 1


def test_a_failure_in_the_model_is_one_error_and_a_reset_mends_it(
    engine: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised below comes out as EngineFailed; after reset, it runs again."""
    cold = one(engine, run(engine, PROMPT))[0]
    engine.insert(run(engine, PROMPT))

    def fail(reads: object) -> None:
        del reads
        raise RuntimeError("[metal] out of memory")

    monkeypatch.setattr(engine._batch, "step", fail)
    with pytest.raises(EngineFailed, match="out of memory"):
        engine.step()
    engine.reset()
    assert one(engine, run(engine, PROMPT))[0] == cold


def test_a_prompt_is_tokens_and_back(engine: MlxEngine) -> None:
    """Digits, code, other scripts, special tokens and white space survive."""
    for text in (
        PROMPT,
        "12345 1,234.5",
        "def f(x):\n\treturn x",
        "日本語 🎉 é",
        "  two\n\n\nlines ",
    ):
        assert engine.tokenizer.wrapper.decode(engine.tokenizer.encode(text)) == text
