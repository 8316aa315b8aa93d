"""The yardstick: mlx-lm's own batch loop with nothing around it, in a process of its own.

Reads lines of `FIRST N` on standard input, generates for N prompts, and answers each line with the
tokens a second. A line of `turn KNOWN NEW` is answered with the seconds to a first token after NEW
tokens, on a state that holds KNOWN already. A line of `count MESSAGES`, with JSON, is answered
with the number of their tokens. `--serve PORT` runs mlx-lm's own server instead. Both
get the same fast BLAS and the same fp32 weights as mlxdeck.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas

load_fast_blas()

from tests.bench.load import NEW_TOKENS, story  # noqa: E402


def loop(folder: str) -> None:
    """Serve standard input."""
    from mlx_lm.generate import batch_generate

    from mlxdeck.server.backends.local.engine.models.loader import load_weights

    model, tokenizer, _ = load_weights(Path(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        if line.startswith("turn"):
            known, new = map(int, line.split()[1:])
            print(turn(model, known, new), flush=True)
            continue
        if line.startswith("count"):
            messages = json.loads(line.removeprefix("count"))
            rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            print(len(rendered), flush=True)
            continue
        first, n = map(int, line.split())
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": story(first + i)}], add_generation_prompt=True
            )
            for i in range(n)
        ]
        began_s = time.perf_counter()
        done = batch_generate(model, tokenizer, prompts, max_tokens=NEW_TOKENS)
        elapsed_s = time.perf_counter() - began_s
        print(done.stats.generation_tokens / elapsed_s, flush=True)


def turn(model: Any, known: int, new: int) -> float:
    """Seconds to the first token after `new` tokens that follow `known` ones."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import make_prompt_cache

    state = make_prompt_cache(model)
    tokens = [100 + n % 5000 for n in range(known + new)]
    for _ in generate_step(mx.array(tokens[:known]), model, max_tokens=0, prompt_cache=state):
        pass
    surplus = state[0].offset - known
    for layer in state:
        layer.trim(surplus)
    began_s = time.perf_counter()
    for _ in generate_step(
        mx.array(tokens[known:]), model, max_tokens=1, prompt_cache=state, prefill_step_size=512
    ):
        return time.perf_counter() - began_s
    raise RuntimeError("no token came")


def server(folder: str, port: str) -> None:
    """Run mlx_lm.server."""
    from mlx_lm.server import main

    sys.argv = ["mlx_lm.server", "--model", folder, "--port", port, "--log-level", "ERROR"]
    main()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        server(sys.argv[2], sys.argv[3])
    else:
        loop(sys.argv[1])
