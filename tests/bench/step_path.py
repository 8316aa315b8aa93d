"""What a decode step costs beside the model: processor time of our own Python, and what it calls.

The server runs in this process, so that its threads can be asked for their times, and its clients
in another one. Processor time doesn't count what others of a shared machine take.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from mlxdeck.server.backends.local.engine.hardware.blas import load_fast_blas
from mlxdeck.server.launch import SWITCH_S
from tests.bench.figures import figure
from tests.bench.load import heading, story
from tests.real import models_home
from tests.server.http import Running, running, until

CLIENTS = (1, 4, 8, 16)
N_TOKENS = 96
SETTLED_STEPS = 8
"""After the last prompt is read, before anything is measured."""
LEFT_TOKENS = 8
"""Before the first answer ends, what is measured has ended."""


@dataclass(slots=True)
class Spent:
    """So far, in seconds of a thread's processor time or of the clock."""

    n_steps: int = 0
    n_passes: int = 0
    n_evals: int = 0
    n_calls: int = 0
    engine_s: float = 0.0
    """Of the engine thread, over all of its turns."""
    model_s: float = 0.0
    """Of that in mlx-lm, sampling included."""
    loop_s: float = 0.0
    wall_s: float = 0.0

    def since(self, before: Spent) -> Spent:
        """What was spent between two moments."""
        return Spent(*(getattr(self, n) - getattr(before, n) for n in self.__slots__))

    def now(self) -> Spent:
        """A copy, on the event loop."""
        copy = Spent(*(getattr(self, name) for name in self.__slots__))
        copy.loop_s, copy.wall_s = time.thread_time(), time.perf_counter()
        return copy


@contextmanager
def watched(server: Running, spent: Spent) -> Iterator[None]:
    """Take times and count calls while the block runs."""
    import mlx.core as mx

    backend: Any = server.service.backend
    worker, engine, loop = backend.scheduler._worker, backend._engine, asyncio.get_running_loop()
    model_class, batch = type(engine._model), engine._batch
    real: dict[str, Any] = {
        "turn": worker.turn, "step": batch.step, "pass": model_class.__call__, "eval": mx.eval,
    }  # fmt: skip

    def turn(**given: Any) -> bool:
        began_s = time.thread_time()
        try:
            return bool(real["turn"](**given))
        finally:
            spent.engine_s += time.thread_time() - began_s

    def step(*given: Any) -> Any:
        began_s = time.thread_time()
        try:
            return real["step"](*given)
        finally:
            spent.model_s += time.thread_time() - began_s
            spent.n_steps += 1

    def one_pass(*given: Any, **named: Any) -> Any:
        spent.n_passes += 1
        return real["pass"](*given, **named)

    def one_eval(*given: Any) -> Any:
        spent.n_evals += 1
        return real["eval"](*given)

    def on_loop(call: Any) -> None:
        spent.n_calls += 1
        loop.call_soon_threadsafe(call)

    worker.turn, batch.step, backend.scheduler._on_loop = turn, step, on_loop
    model_class.__call__, mx.eval = one_pass, one_eval
    try:
        yield
    finally:
        del worker.turn, batch.step, backend.scheduler._on_loop
        model_class.__call__, mx.eval = real["pass"], real["eval"]


def ask(url: str, n_clients: int) -> None:
    """Have answers written at once, streamed, in this process."""

    def one(n: int) -> None:
        body = {
            "model": "m", "max_tokens": N_TOKENS, "temperature": 0, "stream": True,
            "messages": [{"role": "user", "content": story(n)}],
        }  # fmt: skip
        headers = {"content-type": "application/json", "cache-control": "no-cache"}
        with httpx2.stream(
            "POST", f"{url}/v1/messages", content=json.dumps(body), headers=headers, timeout=600
        ) as answer:
            for _ in answer.iter_raw():
                pass

    with ThreadPoolExecutor(n_clients) as pool:
        list(pool.map(one, range(n_clients)))


async def steps(server: Running, n_clients: int) -> Spent:
    """What was spent over the steps in which all of them write."""
    backend: Any = server.service.backend
    worker, spent = backend.scheduler._worker, Spent()
    clients = multiprocessing.get_context("spawn").Process(
        target=ask, args=(str(server.http.base_url), n_clients)
    )
    with watched(server, spent):
        clients.start()
        written = lambda: [job.work.n_tokens for job in list(worker.running.values())]  # noqa: E731
        await until(lambda: len(written()) == n_clients and min(written()) > SETTLED_STEPS, 300)
        before = spent.now()
        await until(lambda: max(written(), default=N_TOKENS) > N_TOKENS - LEFT_TOKENS, 300)
        found = spent.now().since(before)
        await asyncio.to_thread(clients.join)
    return found


async def _all() -> None:
    from mlxdeck.server.backends.local.engine.mlx.engine import MlxEngine

    sys.setswitchinterval(SWITCH_S)
    engine = MlxEngine("smollm2", models_home(), prefill_chunk_tokens=512)
    head = ("steps", "ms a step", "engine us", "loop us", "passes", "evals", "calls")
    print(f"{'clients':<10}" + "".join(f"{each:>11}" for each in head))
    async with running(engine, max_batch=max(CLIENTS)) as server:
        for n in CLIENTS:
            found = await steps(server, n)
            n_steps = found.n_steps
            own_s = found.engine_s - found.model_s
            row = [n_steps, 1e3 * found.wall_s / n_steps, 1e6 * own_s / n_steps]
            row += [1e6 * found.loop_s / n_steps, found.n_passes / n_steps]
            row += [found.n_evals / n_steps, found.n_calls / n_steps]
            print(f"{n:<10}" + "".join(f"{each:>11.2f}" for each in row), flush=True)
            figure(f"step_python_{n}", own_s / found.wall_s)
            if n == max(CLIENTS):
                figure("step_passes", found.n_passes / n_steps)
                figure("step_evals", found.n_evals / n_steps)
                figure("step_calls", found.n_calls / n_steps)


def step_path() -> None:
    """The path of a token from the model to its client."""
    load_fast_blas()
    heading("A decode step beside the model: our Python on the engine thread and on the loop")
    asyncio.run(_all())
