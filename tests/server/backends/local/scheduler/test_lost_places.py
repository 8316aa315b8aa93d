"""An answer of a real model that loses its place goes on as if it had not, whatever was drafted.

For KV caches of every kind, beside another answer, with drafts, forced spans and grammars.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import Constraint, SamplingParams, SequenceSpec
from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.server.backends.local.kv.kv_cache import KVCache
from mlxdeck.server.backends.local.kv.prefix_cache import PrefixCache
from mlxdeck.server.backends.local.scheduler.sequence import Sequence
from tests.server.backends.local.scheduler.turns import Turns

load_fast_blas()

from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine  # noqa: E402
from tests.server.backends.local.engine.test_forced_spans import (  # noqa: E402
    CALL,
    folder_of,
    loaded,
)

pytestmark = pytest.mark.model

FEW = ("llama", "gemma3", "mamba2", "deepseek_v3_plain")
"""Plain caches, windows, a state that can't be cut, and caches of another shape."""
MORE = (*FEW, "falcon_h1")
CHUNK, RAM_BYTES = 64, 50_000_000
N_FREE, N_HELD = 30, 70
GREEDY, SEEDED = SamplingParams(), SamplingParams(1.0, seed=7)
HELD = Constraint(CALL)
KINDS = {
    "free": SequenceSpec([], 0, None, N_FREE, GREEDY),
    "free, seeded": SequenceSpec([], 0, None, N_FREE, SEEDED),
    "held": SequenceSpec([], 0, None, N_HELD, GREEDY, constraint=HELD),
    "held, seeded": SequenceSpec([], 0, None, N_HELD, SEEDED, constraint=HELD),
}
PROMPT = b"Say a word. <tool_call> Say a word. Say a"
"""It repeats, so that there is something to look up."""
BESIDE = b"Something else is asked. Something else."

Loses = Callable[[int], bool]
"""(passes since the first token) -> whether the place is lost now."""


@dataclass
class House:
    """One engine, and the states that it keeps in RAM."""

    name: str
    engine: MlxEngine
    turns: Turns = field(init=False)
    n_places: int = 0
    """Moments at which the last answer could have lost its place."""
    n_drafted: int = 0
    n_forced: int = 0
    """Tokens of the last answer."""

    def __post_init__(self) -> None:
        self.turns = Turns(self.engine, max_batch=2, chunk_tokens=CHUNK)

    def text(self, run: SequenceSpec, loses: Loses, *, knows: bool, rebuilds: bool = False) -> str:
        """An answer beside another one; `knows` is whether its state is kept meanwhile."""
        ram = PrefixCache(self.engine.states, RAM_BYTES if knows else 0)
        states = KVCache(self.engine.states, ram, None, _nothing)
        turns = self.turns
        other, job = (
            Sequence(
                replace(spec, tokens=self.engine.tokenizer.encode(prompt.decode())),
                lambda kept: states.keep(kept, 0, ram.leases.nothing()),
                lease=states.again,
            )
            for spec, prompt in ((KINDS["free"], BESIDE), (run, PROMPT))
        )
        for each in (other, job):
            turns.put(each)
        worker, self.n_places, n_written = turns.worker, 0, 0
        while not turns.is_done(job):
            turns.turn()
            if job.uid not in worker.running or job.work.n_tokens == n_written:
                continue
            self.n_places, n_written = self.n_places + 1, job.work.n_tokens
            if loses(self.n_places):
                worker._make_wait(job)
                if rebuilds and not worker.running:
                    worker._rebuild("for a trial")
        turns.leave(other)
        turns.turn()
        self.n_drafted, self.n_forced = job.work.drafted_tokens, job.work.forced_tokens
        return turns.text(job)


async def _nothing(work: Callable[[], object]) -> None:
    del work


def house(name: str, folder: Path, **settings: Any) -> House:
    """A tiny model of a family, for which every draft and every span pays."""
    return House(name, loaded(folder_of(name, folder / name), prompt_lookup=True, **settings))


def same(found: House, kind: str, *, n_parts: int) -> None:
    """Check the text for losses after each pass, and after the first and the last one.

    Also with those after each pass spread over so many runs.
    """
    run = KINDS[kind]
    whole = found.text(run, lambda _: False, knows=True)
    last = found.n_places
    losses: list[tuple[Loses, bool]] = [(lambda _: True, True), (lambda _: True, False)]
    losses += [(lambda n: n == 1, True), (lambda n: n == last, False)]
    for part in range(n_parts):
        losses.append((lambda n, part=part: n % n_parts == part, part % 2 == 0))  # type: ignore[misc]
    for loses, knows in losses:
        assert found.text(run, loses, knows=knows) == whole, kind


@pytest.fixture(scope="module", params=FEW)
def few(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[House]:
    """A model of each of the few kinds."""
    made = house(request.param, tmp_path_factory.mktemp("model"))
    yield made
    made.engine.close()


def test_it_says_the_same_in_a_place_that_is_lost_again_and_again(few: House) -> None:
    """Behind each pass, with what was drafted and forced under way; known, and read anew."""
    for kind, knows in (("free", True), ("held, seeded", False)):
        whole = few.text(KINDS[kind], lambda _: False, knows=True)
        assert few.n_forced if kind != "free" else (few.n_drafted > 0) is (few.name != "mamba2")
        assert few.text(KINDS[kind], lambda _: True, knows=knows) == whole, kind


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "speculates"), [*((each, True) for each in MORE), ("llama", False), ("mamba2", False)]
)
def test_it_says_the_same_wherever_it_lost_its_place(
    name: str, tmp_path: Path, *, speculates: bool
) -> None:
    """Behind each of its passes."""
    found = house(name, tmp_path, forced_spans=speculates)
    if not speculates:
        found.engine._speculation = None
        found.engine.reset()
    for kind in KINDS:
        same(found, kind, n_parts=2)
    found.engine.close()


@pytest.mark.e2e
@pytest.mark.parametrize("name", FEW)
def test_it_goes_on_in_an_engine_that_was_rebuilt_meanwhile(name: str, tmp_path: Path) -> None:
    """Who waits keeps waiting."""
    found, chance = house(name, tmp_path), random.Random(3)
    for kind in KINDS:
        whole = found.text(KINDS[kind], lambda _: False, knows=True)
        text = found.text(KINDS[kind], lambda _: chance.random() < 0.4, knows=True, rebuilds=True)
        assert text == whole, kind
    found.engine.close()
