"""An engine that raises, hangs or says nonsense at any of its call sites. For tests only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlxdeck.server.backends.local.engine.api import Sampled
from mlxdeck.server.errors import EngineFailed


class Odd(BaseException):
    """Nothing that anybody has heard of."""


KINDS: dict[str, Callable[[], BaseException]] = {
    "engine_failed": lambda: EngineFailed("the model failed: injected"),
    "allocation": lambda: RuntimeError("[metal::malloc] Attempting to allocate 9 bytes: injected"),
    "memory": lambda: MemoryError("injected"),
    "value": lambda: ValueError("injected"),
    "key": lambda: KeyError("injected"),
    "system_exit": lambda: SystemExit("injected"),
    "interrupt": lambda: KeyboardInterrupt("injected"),
    "odd": lambda: Odd("injected"),
}
"""What may be raised, made anew each time."""


@dataclass
class Plan:
    """Where an engine fails, and how. Read by its thread, written by the test."""

    site: str = ""
    """As `insert`, `states.lease` or `tokenizer.render`; empty for nowhere."""
    kind: str = "allocation"
    n_times: int = 1
    n_before: int = 0
    """Calls that go well first."""
    late: bool = False
    """Whether the call is made all the same, and fails when it is done."""
    hang: bool = False
    """Wait for `released` instead of raising."""
    hit: threading.Event = field(default_factory=threading.Event)
    """Set when the fault happens."""
    released: threading.Event = field(default_factory=threading.Event)

    def arm(self, site: str, kind: str = "allocation", **more: Any) -> None:
        """Let the next call there fail."""
        self.kind, self.n_times, self.n_before = kind, 1, 0
        self.late = self.hang = False
        for name, value in more.items():
            setattr(self, name, value)
        self.hit.clear()
        self.site = site

    def disarm(self) -> None:
        """Let everything go well from now on."""
        self.site = ""
        self.released.set()

    def call(self, site: str, work: Callable[..., Any], *args: Any) -> Any:
        """Make a call, or let it fail if it is its turn."""
        if site != self.site:
            return work(*args)
        if self.n_before:
            self.n_before -= 1
            return work(*args)
        if not self.n_times:
            return work(*args)
        self.n_times -= 1
        if self.late:
            work(*args)
        self.hit.set()
        if self.hang:
            self.released.wait(60)
            return work(*args)
        raise KINDS[self.kind]()


class Injected:
    """What stands behind a seam, with a plan for its failures; anything but calls passes."""

    def __init__(self, target: Any, plan: Plan, prefix: str = "") -> None:
        self._target = target
        self._plan = plan
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name in ("states", "tokenizer", "grammars"):
            return Injected(found, self._plan, f"{name}.")
        if not callable(found):
            return found
        return lambda *args: self._plan.call(self._prefix + name, found, *args)


def faulty(engine: Any) -> tuple[Any, Plan]:
    """An engine with a plan for its failures."""
    plan = Plan()
    return Injected(engine, plan), plan


def says_no_numbers(engine: Any, marker: int) -> None:
    """Let sequences whose prompt holds a token end as those do whose logits are no numbers."""
    step = engine.step

    def broken(each: Any) -> Any:
        job = engine._running.get(each.uid)
        if isinstance(each, Sampled) and job is not None and marker in job.run.tokens:
            engine.remove(each.uid)
            return Sampled(each.uid, "", "failed", why="the model's logits are no numbers")
        return each

    engine.step = lambda *args: [broken(each) for each in step(*args)]
