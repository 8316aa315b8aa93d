"""Time that passes only as far as something happens: calls at their moments, and processes.

A process is a generator. It yields seconds to sleep, a request to be answered, or other processes
to be waited for.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any

Call = Callable[[], None]
Process = Generator[Any, Any, Any]
Answerer = Callable[[Any, Callable[[Any], None]], None]
"""(request, what to call with its outcome)"""


class Simulation:
    """Runs calls in the order of their moments."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._order = itertools.count()
        self._calls: list[tuple[float, int, Call]] = []

    def at(self, moment_s: float, call: Call) -> None:
        """Have something done at a moment; of several at the same one, in this order."""
        heapq.heappush(self._calls, (max(moment_s, self.now_s), next(self._order), call))

    def after(self, delay_s: float, call: Call) -> None:
        """The same, so many seconds from now."""
        self.at(self.now_s + delay_s, call)

    def step(self, until_s: float) -> bool:
        """Do what comes next, if that is before a moment."""
        if not self._calls or self._calls[0][0] >= until_s:
            return False
        self.now_s, _, call = heapq.heappop(self._calls)
        call()
        return True

    def run(self, process: Process, answer: Answerer, done: Call = lambda: None) -> None:
        """Drive a process, from now on to its end; `answer` is given the requests it yields."""

        def go_on(value: object = None) -> None:
            try:
                wanted = process.send(value)
            except StopIteration:
                done()
                return
            if isinstance(wanted, int | float):
                self.after(wanted, go_on)
            elif isinstance(wanted, Sequence):
                self._all(wanted, answer, go_on)
            else:
                answer(wanted, go_on)

        self.after(0, go_on)

    def _all(self, processes: Sequence[Process], answer: Answerer, done: Call) -> None:
        """Drive several at the same time; `done` once the last has ended."""
        left = len(processes)

        def one_less() -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        for process in processes:
            self.run(process, answer, one_less)
        if not processes:
            self.after(0, done)
