"""What prompt lookup brings where a file is written again, and what it costs where nothing repeats.

Passes are counted on the corpora's edits, with the answers that are right. Times are those of the
built-in model, with and without, in turns.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.real import models_home

N_TOKENS = 160
ROUNDS = 3
FILE = "".join(f"def price_{n}(value):\n    return value * {n * 7} + {n}\n\n" for n in range(10))
ASKED = {
    "rewrite": f"Repeat this file:\n```python\n{FILE}```",
    "story": "Tell me a story about a lighthouse and the sea.",
}
OPENED = {"rewrite": "```python\n", "story": ""}


def rewrite() -> None:
    """Rows of tokens a pass, of the time of a rewrite and of the loss elsewhere."""
    load_fast_blas()
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine
    from mlxdeck.server.backends.local.engine.speculation.payoff import PassCosts, Payoff
    from tests.bench.drafted import COSTS, count, rewrites, strangers

    heading("Prompt lookup: tokens a pass, and time against one token a pass")
    engines = {
        is_on: MlxEngine("smollm2", models_home(), prefill_chunk_tokens=512, prompt_lookup=is_on)
        for is_on in (True, False)
    }
    for engine in engines.values():
        engine.load(lambda _: None)
    # Where weights lie in memory changes the time of a pass by up to 3 %: both read the same ones.
    engines[False]._model.update(engines[True]._model.parameters())
    encode = engines[True].tokenizer.encode
    edits, passages = rewrites(encode, 100), strangers(encode)
    for name, share in COSTS.items():
        found = count(edits, Payoff(PassCosts(share)))
        beside = count(passages, Payoff(PassCosts(share)))
        print(
            f"a further token costs {name:<18} {found.tokens_a_pass:5.2f} tokens a pass of 100 "
            f"rewrites, {found.n_accepted / max(1, found.n_drafted):.0%} right; "
            f"{beside.tokens_a_pass:.3f} where nothing repeats",
            flush=True,
        )
        if name == "as on a processor":
            figure("rewrite_tokens", found.tokens_a_pass)
    figure("rewrite_time", _faster(engines))
    figure("rewrite_loss", _lost(engines))
    for engine in engines.values():
        engine.close()


def _faster(engines: dict[bool, Any]) -> float:
    """How many times faster a file is written again with prompt lookup: the median of pairs."""
    ratios = []
    for n in range(ROUNDS + 1):
        took = {is_on: _written_s(engine) for is_on, engine in engines.items()}
        # The first round measures what passes cost.
        if n:
            ratios.append(took[False] / took[True])
    return statistics.median(ratios)


def _written_s(engine: Any) -> float:
    """Seconds from the first token of an answer to its last."""
    _begin(engine, "rewrite")
    first_s = 0.0
    while not _step(engine):
        first_s = first_s or time.perf_counter()
    return time.perf_counter() - first_s


def _lost(engines: dict[bool, Any]) -> float:
    """The share of processor time that prompt lookup adds to a token of a story.

    Both write it in turns, a step of one and a step of the other. Other programs make any step take
    up to twice as long, so that sums say little: steps are compared in pairs, and the median
    counts. Who goes first changes, as the second step of a pair costs 1 % more. Steps that verified
    a guess are few and long; what each took beyond its tokens is added as it is.
    """
    ratios, guessed = list[float](), list[float]()
    for n in range(ROUNDS + 1):
        for engine in engines.values():
            _begin(engine, "story")
            _step(engine)
        order, is_done = list(engines), False
        while not is_done:
            order.reverse()
            took_s, steps = {}, {}
            for is_on in order:
                began_s = time.process_time()
                steps[is_on] = engines[is_on].step()
                took_s[is_on] = time.process_time() - began_s
            is_done = any(_is_end(each) for each in steps.values())
            ratio = took_s[True] / took_s[False]
            # The first round measures what passes cost.
            if n and any(each.n_drafted for each in steps[True]):
                guessed.append(ratio - len(steps[True]))
            elif n:
                ratios.append(ratio)
        for engine in engines.values():
            engine.reset()
    lost = (statistics.median(ratios) - 1) * len(ratios) + sum(guessed)
    print(f"{len(guessed)} of {len(ratios) + len(guessed)} steps of a story verified a guess")
    return lost / (len(ratios) + len(guessed))


def _begin(engine: Any, name: str) -> None:
    from mlxdeck.server.backends.local.engine.api import SamplingParams, SequenceSpec

    tokens = engine.tokenizer.encode(
        f"<|im_start|>user\n{ASKED[name]}<|im_end|>\n<|im_start|>assistant\n{OPENED[name]}"
    )
    engine.insert(SequenceSpec(tokens, 0, None, N_TOKENS, SamplingParams()))


def _step(engine: Any) -> bool:
    """One step; whether the answer has ended."""
    return _is_end(engine.step())


def _is_end(steps: list[Any]) -> bool:
    from mlxdeck.server.backends.local.engine.api import Sampled

    return any(isinstance(each, Sampled) and each.finish for each in steps)
