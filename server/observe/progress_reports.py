"""How far a request is: for `/v1/status` at once, and for telemetry from time to time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mlxdeck.server.request_facts import Prepared
from mlxdeck.telemetry.schema.events import RequestProgress

FIRST_S = 0.5
"""A request that is over sooner is not reported."""
LEAST_S, MOST_S = 0.25, 1.0
"""Seconds between two reports; more of a request that is old, whose figures change less."""
AGE_SHARE = 0.05
DIGITS = 6
"""Of seconds, as in other events."""


def progress_of(prepared: Prepared) -> RequestProgress:
    """How far a request is, whose prompt is known."""
    work = prepared.work
    state, since_s = work.state
    is_waiting = state == "wait"
    return RequestProgress(
        state=state,
        state_s=round(time.monotonic() - since_s, DIGITS) if since_s else 0.0,
        position=(work.position or None) if is_waiting else None,
        waits_for=work.waits_for or ("the engine" if is_waiting else ""),
        prompt_tokens=prepared.prompt_tokens,
        cached_tokens=prepared.cached_tokens,
        read_tokens=work.read_tokens,
        output_tokens=work.n_tokens,
        held=work.held,
    )


def as_told(progress: RequestProgress) -> dict[str, Any]:
    """The same for `/v1/status`; where and why only of those that wait."""
    told = msgspec.structs.asdict(progress)
    if progress.state != "wait":
        del told["position"]
    if not progress.waits_for:
        del told["waits_for"]
    return told


class ProgressReports:
    """The reports of one request. For the event loop."""

    def __init__(self, emit: Callable[[RequestProgress], None]) -> None:
        self._emit = emit
        self._timer: asyncio.TimerHandle | None = None
        self._last: RequestProgress | None = None

    def follow(self, prepared: Prepared, began_s: float) -> None:
        """Report on it from now on; `began_s` is when it came, of the monotonic clock."""
        self.stop()
        age_s = time.monotonic() - began_s
        self._again(max(LEAST_S, FIRST_S - age_s), prepared, began_s)

    def stop(self) -> None:
        """It is over, or another backend takes over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, after_s: float, prepared: Prepared, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(after_s, self._report, prepared, began_s)

    def _report(self, prepared: Prepared, began_s: float) -> None:
        now = progress_of(prepared)
        if self._last is None or _without_age(now) != _without_age(self._last):
            self._last = now
            self._emit(now)
        age_s = time.monotonic() - began_s
        self._again(min(MOST_S, max(LEAST_S, AGE_SHARE * age_s)), prepared, began_s)


def _without_age(progress: RequestProgress) -> RequestProgress:
    return msgspec.structs.replace(progress, state_s=0.0)
