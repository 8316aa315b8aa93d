"""With little memory, requests wait, lose their places and go on; their clients see one answer."""

from __future__ import annotations

import asyncio

from mlxdeck.server.backends.local.backend import LocalBackend
from mlxdeck.server.backends.local.engine.api import SequenceSpec
from mlxdeck.telemetry.schema.events import RequestEnd
from tests.server.backends.local.scheduler.test_admission import COST, Small
from tests.server.http import events, running

N_CHARS = 2_700


class Cached(Small):
    """Of whose memory the server's own cache of states takes its part."""

    backend: LocalBackend | None = None
    n_again = 0
    """How often an answer went on that had lost its place."""

    def insert(self, run: SequenceSpec) -> int:
        """Take note of it."""
        self.n_again += run.n_written > 1_500
        return super().insert(run)

    @property
    def cached_bytes(self) -> int:  # type: ignore[override]
        """What the cache holds by now."""
        ready = self.backend is not None and self.backend._is_ready
        return self.backend.kv.states.ram.n_bytes if ready and self.backend else 0


def said(prompt: str) -> str:
    """An answer that is longer than is reckoned with, and another one for each prompt."""
    name = prompt.split("</user>")[0][-1]
    return "".join(f"{name}{n} " for n in range(N_CHARS))[:N_CHARS]


async def test_an_answer_that_lost_its_place_is_one_answer() -> None:
    """Text, usage and telemetry are those of an answer that never waited."""
    engine = Cached(said)
    engine.whole_bytes = 2 * COST.bytes_of(2_350)
    async with running(engine, max_batch=4, exact_cache_entries=0) as server:
        backend = server.service.backend
        assert isinstance(backend, LocalBackend)
        engine.backend = backend
        names = "xy"
        asked = [server.ask(name, max_tokens=9_000, stream=True) for name in names]
        answers = await asyncio.gather(*asked)
        ends = await server.ended(2)
    assert engine.n_again
    for name, each in zip(names, answers, strict=True):
        seen = events(each.text)
        text = "".join(
            data["delta"]["text"]
            for kind, data in seen
            if "delta" in kind and "text" in data["delta"]
        )
        assert text == said(f"<user>{name}</user>")
        assert seen[-1][0] == "message_stop"
    assert all(isinstance(end, RequestEnd) and end.outcome == "ok" for end in ends)
    assert {(end.output_tokens, end.input_tokens) for end in ends} == {(N_CHARS + 1, 25)}
    assert engine.most_held_bytes <= engine.whole_bytes
