"""What it costs to hold a model to a grammar: per token, and once per schema.

To be imported once the fast BLAS is loaded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.sample_utils import greedy_sampler

from mlxdeck.server.backends.local.engine.api import Constraint, Read
from mlxdeck.server.backends.local.engine.mlx.batches import Batches, PromptRow
from mlxdeck.server.backends.local.engine.mlx.drafting import Speculation
from mlxdeck.server.backends.local.engine.mlx.engine import TOKEN_SHARES
from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars, Processor
from mlxdeck.server.backends.local.engine.models.loader import load_weights
from mlxdeck.server.backends.local.engine.speculation.payoff import PassCosts, Payoff
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ToolSpec, ToolUse
from tests.bench.figures import figure
from tests.bench.load import heading, story
from tests.corpora.tool_turns import tool_turns
from tests.e2e.schemas import SCHEMAS
from tests.zoo.forced import forced_share

NEW_TOKENS = 64
ROUNDS = 7
ROWS = (1, 4)
# A call whose text goes on for as long as it is let.
LONG = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def grammars(folder: Path) -> None:
    """The same loop with and without a grammar in turn, then the grammars by themselves."""
    heading("Held to a grammar: SmolLM2, 64 tokens of one long text argument")
    model, wrapper, _ = load_weights(folder)
    held = MlxGrammars(wrapper)
    grammar = FORMATS["json_tags"].grammar([ToolSpec("write", "", LONG)], marked=True)
    assert grammar is not None
    prompt = wrapper.apply_chat_template(
        [{"role": "user", "content": story(1)}], add_generation_prompt=True
    )
    for n_rows in ROWS:
        rates: dict[str, list[float]] = {"free": [], "held": []}
        for turn in range(ROUNDS + 1):
            for name, each in rates.items():
                made = [held.processor(Constraint(grammar)) for _ in range(n_rows)]
                rate = _tokens_per_s(model, prompt, made if name == "held" else [None] * n_rows)
                if turn:
                    each.append(rate)
        free, kept = (statistics.median(each) for each in rates.values())
        print(f"tokens/s, {n_rows} free                {free:8.1f}")
        print(f"tokens/s, {n_rows} held                {kept:8.1f}")
        figure("held_of_free" if n_rows == 1 else f"held_of_free_{n_rows}", kept / free)
    figure("held_forced", forced_share(held, "json_tags", tool_turns()))
    _alone(held, grammar)


def _tokens_per_s(model: Any, prompt: list[int], held: Sequence[Processor | None]) -> float:
    """How fast answers are written side by side, each free or held."""
    speculation = Speculation(Payoff(PassCosts(TOKEN_SHARES["cpu"])))
    batches = Batches(model, stop_tokens=(), max_kv_tokens=None, speculation=speculation)
    for each in held:
        processors = (each,) if each else ()
        row = PromptRow([list(prompt)], NEW_TOKENS, None, [], greedy_sampler, processors)
        batches.insert(row)
    batches.step([Read(tuple(batches.prompts), len(prompt))])
    n_tokens, began_s = 0, time.perf_counter()
    while drawn := batches.step([])[1]:
        n_tokens += len(drawn)
    taken_s = time.perf_counter() - began_s
    batches.close()
    return n_tokens / taken_s


def _alone(held: MlxGrammars, grammar: str) -> None:
    call = FORMATS["json_tags"].write_call(ToolUse("", "write", {"text": "Once"}))
    processor = held.processor(Constraint(grammar, already=call.partition("Once")[0]))
    logits = mx.zeros((1, 49152))
    costs_s = []
    for _ in range(200):
        began_s = time.perf_counter()
        mx.eval(processor(mx.array([1]), logits))
        costs_s.append(time.perf_counter() - began_s)
    print(f"mask within a text, alone       {statistics.median(costs_s) * 1000:8.2f} ms")
    costs_s = []
    for number, schema in enumerate(SCHEMAS):
        text = FORMATS["json_tags"].grammar([ToolSpec(f"t{number}", "", schema)], marked=True)
        began_s = time.perf_counter()
        assert text is not None and not held.check(text)
        costs_s.append(time.perf_counter() - began_s)
    costs_s.sort()
    print(f"compiling a schema, p50         {costs_s[len(costs_s) // 2] * 1000:8.2f} ms")
    print(f"compiling a schema, slowest     {costs_s[-1] * 1000:8.2f} ms")
