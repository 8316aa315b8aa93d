"""Steps of several tokens a row: the text is that of single tokens, in fewer passes.

For models with KV caches of every kind, on drafts that are right, wrong, or right for a while.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import GenerationBatch
from mlx_lm.models.cache import (
    BatchKVCache,
    BatchRotatingKVCache,
    RotatingKVCache,
    TokenBuffer,
    dynamic_roll,
)
from mlx_lm.sample_utils import greedy_sampler

from mlxdeck.server.backends.local.engine.api import (
    KVState,
    Sampled,
    SamplingParams,
    SequenceSpec,
)
from mlxdeck.server.backends.local.engine.mlx import engine as mlx_engine
from mlxdeck.server.backends.local.engine.mlx.decode_batch import DecodeBatch
from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
from mlxdeck.server.backends.local.engine.mlx.sampling import is_finite
from mlxdeck.server.backends.local.engine.speculation.payoff import (
    PassCosts,
    Payoff,
)
from mlxdeck.server.errors import EngineFailed
from tests.zoo import models
from tests.zoo.families import FAMILIES

pytestmark = pytest.mark.model

CUTTABLE = ("llama", "qwen3_moe", "deepseek_v3_plain", "gemma3", "gpt_oss", "gemma4")
STOCK = ("mamba2", "qwen3_5")
N_WORDS = 400
LENGTHS = (5, 60, 31, 1)
N_ANSWER = 70


class FreePasses(PassCosts):
    """As if a pass took its time whatever it reads: every draft is tried."""

    def ratio(self, n_rows: int, width: int) -> float:
        """None costs more than another."""
        return 1.0


@dataclass
class Oracle:
    """Knows what will be written, and is wrong now and then."""

    answer: list[int]
    chance: random.Random
    wrong: float
    n: int = 0
    length: int = 99

    def index(self) -> None:
        """Nothing has to be made."""

    def token_share(self, pass_s: float | None) -> float:
        """It knows for nothing."""
        del pass_s
        return 0.0

    def feed(self, token: int) -> None:
        """The next one is known."""
        assert token == self.answer[self.n]
        self.n += 1

    def draft(self, most_tokens: int) -> list[int]:
        """What follows, some of it replaced."""
        known = self.answer[self.n : self.n + self.chance.randrange(most_tokens + 1)]
        return [
            self.chance.randrange(300) if self.chance.random() < self.wrong else token
            for token in known
        ]


def loaded(name: str, home: Path) -> MlxEngine:
    """A tiny model with a family's layers and few words, so that a step takes next to no time."""
    folder = models.small_smollm2(home / name)
    fields = {**models.TINY, **FAMILIES[name].config, "vocab_size": N_WORDS}
    architecture = FAMILIES[name].architecture
    models.write_weights(folder, architecture, {**fields, "model_type": architecture}, seed=7)
    engine = MlxEngine(str(folder), home, prefill_chunk_tokens=16)
    engine.load(lambda _: None)
    assert engine._speculation is not None
    engine._speculation.payoff = Payoff(FreePasses(0.0))
    # What ends an answer is left to chance: the answers are all of full length.
    engine._stop_tokens = []
    engine._speculation.stops = frozenset()
    engine.reset()
    return engine


@pytest.fixture(scope="module", params=CUTTABLE)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlxEngine]:
    """A model with caches that rows can be taken back in."""
    made = loaded(request.param, tmp_path_factory.mktemp("models"))
    yield made
    made.close()


def prompts(seed: int) -> list[list[int]]:
    """Prompts of different lengths."""
    chance = random.Random(seed)
    return [[chance.randrange(5, 300) for _ in range(n)] for n in LENGTHS]


@dataclass
class Written:
    """What came of one sequence."""

    tokens: list[int]
    n_steps: int = 0
    n_drafted: int = 0
    n_accepted: int = 0
    kept: KVState | None = None


def write(
    engine: MlxEngine, specs: list[SequenceSpec], oracles: list[Oracle | None]
) -> list[Written]:
    """The answers to all of them, written together."""
    uids = [engine.insert(each) for each in specs]
    assert engine._speculation is not None
    known = engine._speculation.sequences
    for uid, oracle in zip(uids, oracles, strict=True):
        if oracle is None:
            del known[uid]
        else:
            known[uid].drafter = oracle
    written = {uid: Written([]) for uid in uids}
    while any(each.kept is None for each in written.values()):
        stepped = set()
        for each in engine.step():
            if isinstance(each, Sampled):
                one = written[each.uid]
                one.tokens.append(each.token)
                one.n_drafted += each.n_drafted
                one.n_accepted += each.n_accepted
                one.kept = each.kept or one.kept
                stepped.add(each.uid)
        for uid in stepped:
            written[uid].n_steps += 1
    return [written[uid] for uid in uids]


def spec(tokens: list[int], **more: Any) -> SequenceSpec:
    """A greedy answer."""
    return SequenceSpec(tokens, 0, None, N_ANSWER, **{"sampling": SamplingParams(), **more})


def plain(engine: MlxEngine, one: SequenceSpec) -> Written:
    """What is written without drafts, alone; its last token is known by the state."""
    (found,) = write(engine, [one], [None])
    assert found.kept is not None
    found.tokens[-1] = found.kept.tokens[-1]
    return found


def arrays(state: Any) -> list[mx.array]:
    """Keys and values of all layers, cut to what they hold."""
    return [each[..., : layer.size(), :] for layer in state for each in (layer.keys, layer.values)]


def test_the_text_is_that_of_single_tokens(engine: MlxEngine) -> None:
    """Rows of different lengths in one batch, with and without drafts, greedy and with a seed.

    What is kept holds exactly the tokens of prompt and answer, and the same numbers.
    """
    seeded = SamplingParams(temperature=1.0, seed=5, presence_penalty=0.5)
    samplings = (SamplingParams(), seeded, SamplingParams(), SamplingParams())
    specs = [
        spec(tokens, sampling=each) for tokens, each in zip(prompts(1), samplings, strict=True)
    ]
    expected = [plain(engine, each) for each in specs]
    chance = random.Random(2)
    oracles = [Oracle(each.tokens, chance, 0.2) for each in expected]
    found = write(engine, specs, [*oracles[:3], None])
    for one, single, asked in zip(found, expected, specs, strict=True):
        assert one.kept is not None and single.kept is not None
        assert one.tokens[:-1] == single.tokens[:-1]
        assert list(one.kept.tokens) == [*asked.tokens, *single.tokens]
        assert len(one.tokens) == N_ANSWER
        for ours, theirs in zip(arrays(one.kept.state), arrays(single.kept.state), strict=True):
            assert ours.shape == theirs.shape and mx.allclose(ours, theirs, atol=1e-4)
    assert all(10 < each.n_accepted < each.n_drafted for each in found[:3])
    assert all(each.n_steps == N_ANSWER - each.n_accepted for each in found[:3])
    assert found[3].n_drafted == 0


def test_rows_that_join_and_leave_find_their_tokens(engine: MlxEngine) -> None:
    """In the middle of a verification too: what leaves leaves its state, what joins is whole."""
    asked = [spec(tokens) for tokens in prompts(3)]
    expected = [plain(engine, each).tokens for each in asked]
    chance = random.Random(4)
    assert engine._speculation is not None
    uids: list[int] = []
    written: dict[int, list[int]] = {}
    left: dict[int, KVState] = {}
    for n in range(60):
        if n % 7 == 0 and len(uids) < len(asked):
            place = len(uids)
            uids.append(engine.insert(asked[place]))
            written[uids[-1]] = []
            known = engine._speculation.sequences[uids[-1]]
            known.drafter = Oracle(expected[place], chance, 0.2)
        if n == 17 and (kept := engine.remove(uids[1])) is not None:
            left[uids[1]] = kept
        for each in engine.step():
            if isinstance(each, Sampled):
                written[each.uid].append(each.token)
    for place, uid in enumerate(uids):
        tokens = expected[place]
        if uid in left:
            whole = [*asked[place].tokens, *tokens]
            assert list(left[uid].tokens) == whole[: len(left[uid].tokens)]
            again = replace(
                asked[place],
                tokens=[*left[uid].tokens, 7],
                n_cached=len(left[uid].tokens),
                state=left[uid].state,
                max_tokens=8,
            )
            fresh = replace(again, n_cached=0, state=None)
            assert plain(engine, again).tokens == plain(engine, fresh).tokens
        else:
            assert written[uid][:-1] == tokens[:-1]
    assert not engine._speculation.sequences


def test_nothing_is_moved_when_tokens_are_taken_back(engine: MlxEngine) -> None:
    """Buffers stay where they are from pass to pass, whatever is accepted of each row."""
    asked = [spec(tokens) for tokens in prompts(5)[:3]]
    expected = [plain(engine, each).tokens for each in asked]
    chance = random.Random(6)
    uids = [engine.insert(each) for each in asked]
    assert engine._speculation is not None
    for uid, tokens in zip(uids, expected, strict=True):
        engine._speculation.sequences[uid].drafter = Oracle(tokens, chance, 0.3)
    engine.step([])
    while engine._batch.prompts:
        engine.step()
    seen: list[list[int]] = []
    for _ in range(8):
        engine.step()
        (group,) = engine._batch.groups
        assert isinstance(group, DecodeBatch)
        mx.eval([each.keys for each in group.prompt_cache])
        seen.append([_address(each.keys) for each in group.prompt_cache])
    engine.reset()
    same = [
        a == b
        for before, after in itertools.pairwise(seen)
        for a, b in zip(before, after, strict=True)
    ]
    # A window drops what it doesn't attend any more once in many passes.
    assert sum(same) >= len(same) - 2 * len(seen[0])


def _address(array: mx.array) -> int:
    return int(np.asarray(array).__array_interface__["data"][0])


@pytest.mark.parametrize("name", STOCK)
def test_states_that_cannot_be_cut_take_the_stock_step(name: str, tmp_path: Path) -> None:
    """Running states have no past to go back to."""
    engine = loaded(name, tmp_path)
    asked = spec(prompts(1)[0])
    told = plain(engine, asked)
    (found,) = write(engine, [asked], [Oracle(told.tokens, random.Random(1), 0.0)])
    assert found.tokens[:-1] == told.tokens[:-1]
    assert found.n_drafted == 0 and found.n_steps == N_ANSWER
    engine.close()


class Constant:
    """Guesses the same tokens everywhere."""

    length = 99

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens

    def index(self) -> None:
        """Nothing has to be made."""

    def token_share(self, pass_s: float | None) -> float:
        """It's known."""
        del pass_s
        return 0.0

    def feed(self, token: int) -> None:
        """It makes no difference."""

    def draft(self, most_tokens: int) -> list[int]:
        """Always those."""
        return self._tokens[:most_tokens]


def test_sampled_answers_come_from_the_same_distribution(tmp_path: Path) -> None:
    """Each answer of three tokens about as often with drafts as without, by chi-square."""
    engine = loaded("llama", tmp_path)
    assert engine._speculation is not None
    sampling = SamplingParams(temperature=6.0, top_k=4)
    asked = replace(spec(prompts(1)[0], sampling=sampling), max_tokens=4)
    likely = plain(engine, replace(asked, sampling=SamplingParams())).tokens
    mx.random.seed(11)
    counts: list[Counter[tuple[int, ...]]] = []
    for is_drafted in (False, True):
        oracle: Any = Constant(likely[1:2] * 3) if is_drafted else None
        found: Counter[tuple[int, ...]] = Counter()
        for _ in range(24):
            for each in write(engine, [asked] * 16, [oracle] * 16):
                found[tuple(each.tokens[:3])] += 1
                assert bool(each.n_drafted) is is_drafted
        counts.append(found)
    engine.close()
    one, other = counts
    kinds = [each for each in one | other if one[each] + other[each] >= 10]
    assert len(kinds) > 8
    deviation = sum((one[each] - other[each]) ** 2 / (one[each] + other[each]) for each in kinds)
    # The mean of chi-square is its degrees of freedom, the variance twice as much.
    assert deviation < len(kinds) + 4 * (2 * len(kinds)) ** 0.5


def test_faults_in_a_step_of_several_tokens_lose_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are no numbers end their row alone; a fault is one error, then all is new."""
    engine = loaded("llama", tmp_path)
    assert engine._speculation is not None
    specs = [spec(tokens) for tokens in prompts(7)[:2]]
    expected = [plain(engine, each).tokens for each in specs]
    wrong = expected[0][30]
    real = is_finite
    uids = [engine.insert(each) for each in specs]
    for uid, tokens in zip(uids, expected, strict=True):
        oracle = Oracle(tokens, random.Random(8), 0.0)
        engine._speculation.sequences[uid].drafter = oracle
    monkeypatch.setattr(
        mlx_engine, "is_finite", lambda row, token: token != wrong and real(row, token)
    )
    written: dict[int, list[Sampled]] = {uid: [] for uid in uids}
    while not (written[uids[1]] and written[uids[1]][-1].finish):
        for each in engine.step():
            if isinstance(each, Sampled):
                written[each.uid].append(each)
    ends = [written[uid][-1].finish for uid in uids]
    assert ends[0] == "failed" and (ends[1] == "length") is (wrong not in expected[1])
    assert [each.token for each in written[uids[0]]][:-1] == expected[0][
        : len(written[uids[0]]) - 1
    ]
    for name in ("_verify", "_settle_row"):
        uid = engine.insert(specs[0])
        engine._speculation.sequences[uid].drafter = Oracle(expected[0], random.Random(9), 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(DecodeBatch, name, _failing)
            with pytest.raises(EngineFailed, match="injected"):
                for _ in range(N_ANSWER):
                    engine.step()
        engine.reset()
        assert not engine._speculation.sequences and engine.step() == []
    monkeypatch.setattr(mlx_engine, "is_finite", real)
    assert plain(engine, specs[0]).tokens == expected[0]
    engine.close()


def _failing(*args: Any) -> None:
    raise RuntimeError("injected")


def test_what_is_used_of_the_library_is_as_it_was() -> None:
    """Private names of mlx-lm; where they change, steps of several tokens have to be looked at."""
    told = inspect.signature(GenerationBatch.__init__).parameters
    assert [*told][1:] == [
        *("model", "uids", "inputs", "prompt_cache", "tokens", "samplers", "fallback_sampler"),
        *("logits_processors", "stop_sequences", "max_tokens"),
    ]
    batch = vars(GenerationBatch.empty(None, greedy_sampler))
    assert {
        *("_next_tokens", "_next_logprobs", "_current_tokens", "_current_logprobs"),
        *("_num_tokens", "_matchers", "_token_context"),
    } <= {*batch}
    used = inspect.getsource(GenerationBatch.next)
    assert all(name in used for name in ("self._step()", "self.extract_cache(", "self.filter("))
    assert vars(TokenBuffer([1]))["_size"] == 1
    assert {"keys", "values", "left_padding", "offset", "_idx"} <= {*vars(BatchKVCache([0]))}
    rotating = BatchRotatingKVCache(4, [0])
    assert {"max_size", "left_padding", "offset", "_idx"} <= {*vars(rotating)}
    assert callable(rotating._temporal_order) and "_idx" in vars(RotatingKVCache(4))
    rolled = dynamic_roll(mx.arange(6).reshape(2, 1, 3, 1), mx.array([[1], [0]]), axis=2)
    assert rolled.reshape(2, 3).tolist() == [[2, 0, 1], [3, 4, 5]]
