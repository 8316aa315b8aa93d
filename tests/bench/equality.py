"""Whether greedy answers stay the same when something is turned on that must not change them.

A server of this process answers the same requests under different settings, and the tokens are
read at the engine. Where two answers differ, the model itself says how near the two tokens were:
batches of other shapes and other kernels change the last bits of a logit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.api import Engine, Reads, Sampled, SequenceSpec, Step
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.launch import make_engine
from tests.server.http import Running, running

EPSILON = 0.01
"""Two tokens whose logits are nearer than this are as good as one another, in float32.

Logits that are summed up in another order differ by about 1e-4.
"""
N_AT_ONCE = 8
PATIENCE_S = 900.0
"""For an answer, also beside other programs."""
Tokens = tuple[int, ...]


@dataclass(slots=True)
class Recording:
    """What an engine was asked and has written: answers by prompts."""

    answers: dict[Tokens, list[int]] = field(default_factory=dict)
    n_passless: int = 0
    """Tokens that came in one step with another of the same answer."""
    n_cached: int = 0
    """Prompt tokens that were known."""
    n_prompt: int = 0

    @property
    def n_written(self) -> int:
        """Tokens of all answers."""
        return sum(map(len, self.answers.values()))


class FreePasses:
    """Stands for `PassCosts`: longer passes always pay here, however busy the machine is."""

    def note(self, n_rows: int, width: int, seconds: float) -> None:
        """Nothing is learned."""

    def ratio(self, n_rows: int, width: int) -> float:
        """Any pass takes as long as one over a token a row."""
        return 1.0

    def pass_s(self, n_rows: int) -> float | None:
        """It's not known."""


class Recorder:
    """Records what an engine does, from its first use on."""

    def __init__(self, engine: Engine) -> None:
        self.recording = Recording()
        """May be replaced between two requests."""
        self._prompts: dict[int, Tokens] = {}
        self._insert, self._step = engine.insert, engine.step
        engine.insert, engine.step = self._inserted, self._stepped  # type: ignore[method-assign]

    def _inserted(self, run: SequenceSpec) -> int:
        uid, prompt = self._insert(run), tuple(run.tokens)
        self._prompts[uid] = prompt
        self.recording.answers[prompt] = []
        self.recording.n_cached += run.n_cached
        self.recording.n_prompt += len(prompt)
        return uid

    def _stepped(self, reads: Reads = None) -> list[Step]:
        found = self._step(reads)
        written = [each for each in found if isinstance(each, Sampled)]
        self.recording.n_passless += len(written) - len({each.uid for each in written})
        for each in written:
            if each.token >= 0:
                self.recording.answers[self._prompts[each.uid]].append(each.token)
        return found


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two answers part."""

    prompt: Tokens
    n_equal: int
    """Tokens up to there."""
    pair: tuple[int, int]

    def context(self, answer: Sequence[int]) -> list[int]:
        """All tokens in front of the two that differ."""
        return [*self.prompt, *answer[: self.n_equal]]


def differences(reference: Recording, other: Recording) -> list[Difference]:
    """Of the prompts that both have answered; an answer that ends early differs by a -1."""
    found = []
    for prompt, expected in reference.answers.items():
        answer = other.answers.get(prompt)
        if answer is None or answer == expected:
            continue
        pairs = zip([*expected, -1], [*answer, -1], strict=False)
        place, pair = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
        found.append(Difference(prompt, place, pair))
    return found


def gap(model: Any, context: Sequence[int], pair: tuple[int, int], ends: Sequence[int]) -> float:
    """How far apart the logits of two tokens are. The reference's is the best that is allowed.

    A -1 stands for the best of the tokens that end an answer.
    """
    import mlx.core as mx

    logits = model(mx.array([list(context)]))[0, -1].astype(mx.float32)
    ours, theirs = (
        max(float(logits[end]) for end in ends) if token < 0 else float(logits[token])
        for token in pair
    )
    return abs(ours - theirs)


async def answered(
    folder: Path, bodies: Sequence[Mapping[str, Any]], n_times: int = 1, **settings: Any
) -> list[Recording]:
    """What the model in a folder answers, a recording for each time that all were asked."""
    chosen = {"model": str(folder), "loop_guard": False, **settings}
    engine = make_engine(Settings(**chosen, engine="mlx"))
    if speculation := getattr(engine, "_speculation", None):
        speculation.payoff.costs = FreePasses()
    recorder, found = Recorder(engine), []
    async with running(engine, **chosen) as server:
        for _ in range(n_times):
            await ask_all(server, bodies)
            found.append(recorder.recording)
            recorder.recording = Recording()
    return found


async def ask_all(server: Running, bodies: Sequence[Mapping[str, Any]]) -> None:
    """A few at a time, past the cache of whole answers."""
    places = asyncio.Semaphore(N_AT_ONCE)

    async def ask(body: Mapping[str, Any]) -> None:
        async with places:
            headers = {"cache-control": "no-cache"}
            response = await server.http.post(
                "/v1/messages", json=dict(body), headers=headers, timeout=PATIENCE_S
            )
            assert response.status_code == 200, response.text

    await asyncio.gather(*map(ask, bodies))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Answers under other settings against the reference."""

    n_answers: int
    gaps: Sequence[float]
    """Of those that differ: see `gap`."""

    @property
    def n_wrong(self) -> int:
        """Those that rounding doesn't explain."""
        return sum(each > EPSILON for each in self.gaps)


def compared(folder: Path, reference: Recording, other: Recording) -> Comparison:
    """Load the model, only if an answer differs."""
    n_answers = len(reference.answers.keys() & other.answers.keys())
    parted = differences(reference, other)
    if not parted:
        return Comparison(n_answers, ())
    from mlxdeck.server.backends.local.engine.models.loader import load_weights

    model, wrapper, _ = load_weights(folder)
    ends = sorted(wrapper.eos_token_ids)
    return Comparison(
        n_answers,
        [
            gap(model, each.context(reference.answers[each.prompt]), each.pair, ends)
            for each in parted
        ],
    )
