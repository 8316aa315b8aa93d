"""What prompt lookup brings where a file is written again, and what it costs where nothing repeats.

Passes are counted on the corpora's edits, with the answers that are right. Times are those of the
built-in model, with and without, in turn.
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
    for name, row in (("rewrite", "rewrite_time"), ("story", "rewrite_loss")):
        ratio = _against(engines, name)
        figure(row, ratio if name == "rewrite" else 1 - ratio)
    for engine in engines.values():
        engine.close()


def _against(engines: dict[bool, Any], name: str) -> float:
    """How many times faster it's written with prompt lookup: the median of pairs."""
    ratios = []
    for n in range(ROUNDS + 1):
        took = {is_on: _written_s(engine, name) for is_on, engine in engines.items()}
        # The first round measures what passes cost.
        if n:
            ratios.append(took[False] / took[True])
    return statistics.median(ratios)


def _written_s(engine: Any, name: str) -> float:
    """Seconds from the first token of an answer to its last."""
    from mlxdeck.server.backends.local.engine.api import Sampled, SamplingParams, SequenceSpec

    tokens = engine.tokenizer.encode(
        f"<|im_start|>user\n{ASKED[name]}<|im_end|>\n<|im_start|>assistant\n{OPENED[name]}"
    )
    engine.insert(SequenceSpec(tokens, 0, None, N_TOKENS, SamplingParams()))
    first_s = 0.0
    while True:
        drawn = [each for each in engine.step() if isinstance(each, Sampled)]
        if drawn and not first_s:
            first_s = time.perf_counter()
        if drawn and drawn[-1].finish:
            return time.perf_counter() - first_s
