"""How long a short prompt waits behind two long ones, in steps of the engine: no clock is read."""

from __future__ import annotations

import asyncio
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from mlxdeck.server.backends.local.engine.api import Engine, Reads, Sampled, SequenceSpec, Step
from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.launch import make_engine
from tests.bench.figures import figure
from tests.bench.load import heading
from tests.server.http import running, until

LONG_TOKENS = 20_000
WINDOW_TOKENS = 65_536
N_TRIES = 10
SHORT_TOKENS = 200
"""A prompt that is shorter, template included, is the short one."""


class StepCounter:
    """Counts an engine's steps, and those until the short prompt's first token."""

    def __init__(self, engine: Engine) -> None:
        self.n_steps = 0
        """Those that have begun."""
        self.first_at: int | None = None
        """The step in which the short prompt had its first token."""
        self._short: set[int] = set()
        self._insert, self._step = engine.insert, engine.step
        engine.insert, engine.step = self._inserted, self._stepped  # type: ignore[method-assign]

    def has_begun(self, n_steps: int) -> bool:
        """Whether there were so many steps."""
        return self.n_steps >= n_steps

    def _inserted(self, run: SequenceSpec) -> int:
        uid = self._insert(run)
        if len(run.tokens) - run.n_cached < SHORT_TOKENS:
            self._short.add(uid)
        return uid

    def _stepped(self, reads: Reads = None) -> list[Step]:
        self.n_steps += 1
        found = self._step(reads)
        if any(isinstance(each, Sampled) and each.uid in self._short for each in found):
            self.first_at = self.first_at or self.n_steps
        return found


def waits() -> None:
    """Two prompts of 20,000 tokens are being read; a third of 20 comes."""
    load_fast_blas()
    from tests.zoo.models import small_smollm2

    heading("20 new tokens behind two prompts of 20,000, small random llama, window of 64k")
    with tempfile.TemporaryDirectory() as name:
        folder = small_smollm2(Path(name))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["max_position_embeddings"] = WINDOW_TOKENS
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        n_steps = asyncio.run(measured(folder))
    print(f"steps that began after it came, {len(n_steps)} tries: {n_steps}")
    figure("wait_steps", max(n_steps))


async def measured(folder: Path, n_tries: int = N_TRIES) -> list[int]:
    """Steps that begin after a short request is queued, up to its first token: once each try."""
    chosen: dict[str, Any] = {"model": str(folder), "prefix_cache_bytes": 1}
    engine = make_engine(Settings(**chosen, engine="mlx"))
    counter = StepCounter(engine)
    async with running(engine, **chosen) as server:
        scheduler = server.service.backend.scheduler  # type: ignore[attr-defined]
        submit, found, submitted_at = scheduler.submit, list[int](), [0]

        def submitting(job: Any) -> Any:
            submitted_at.append(counter.n_steps)
            return submit(job)

        scheduler.submit = submitting
        long = [
            asyncio.create_task(server.ask(text * LONG_TOKENS, max_tokens=1))
            for text in ("one ", "two ")
        ]
        await until(lambda: scheduler.status.active == len(long))
        for number in range(n_tries):
            counter.first_at = None
            await until(partial(counter.has_begun, counter.n_steps + 3))
            await server.ask(f"Is anybody there? {number}", max_tokens=1)
            assert counter.first_at is not None and not any(task.done() for task in long)
            found.append(counter.first_at - submitted_at[-1])
        await asyncio.gather(*long)
    return found
