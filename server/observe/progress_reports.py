"""How far a request is: for `/v1/status` at once, and for telemetry from time to time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mlxdeck.server.chat import Usage
from mlxdeck.server.request_facts import Prepared
from mlxdeck.telemetry.schema.attributes import MAX_COUNT
from mlxdeck.telemetry.schema.events import RequestProgress

FIRST_S = 0.5
"""A request that is over sooner is not reported."""
LEAST_S, MOST_S = 0.25, 1.0
"""Seconds between two reports; more of a request that is old, whose figures change less."""
AGE_SHARE = 0.05
DIGITS = 6
"""Of seconds, as in other events."""


TAIL_CHARS = 8_000
"""Of the answer's text that a report takes along; fewer are kept, once secrets are masked."""


def progress_of(prepared: Prepared, output_chars: int) -> RequestProgress:
    """How far a request is, whose prompt is known."""
    work = prepared.work
    state, since_s = work.state
    is_waiting = state == "wait"
    return RequestProgress(
        state=state,
        state_s=round(time.monotonic() - since_s, DIGITS) if since_s else 0.0,
        position=(min(work.position, MAX_COUNT) or None) if is_waiting else None,
        waits_for=work.waits_for or ("the engine" if is_waiting else ""),
        prompt_tokens=prepared.prompt_tokens,
        cached_tokens=prepared.cached_tokens,
        read_tokens=work.read_tokens,
        output_tokens=work.n_tokens,
        output_chars=output_chars,
        held=work.held,
    )


def progress_elsewhere(
    since_s: float, usage: Usage | None, output_chars: int, waits_for: str
) -> RequestProgress:
    """The same of one that no engine here works at, by what has come of its answer.

    It is being prepared if it waits for nothing.
    """
    is_begun = output_chars > 0
    prompt_tokens = usage.input_tokens if usage else None
    return RequestProgress(
        state="decode" if is_begun else "wait" if waits_for else "prepare",
        state_s=round(time.monotonic() - since_s, DIGITS),
        waits_for="" if is_begun else waits_for,
        prompt_tokens=prompt_tokens,
        cached_tokens=usage.cached_tokens if usage else None,
        read_tokens=prompt_tokens if is_begun else None,
        output_chars=output_chars,
    )


def as_told(progress: RequestProgress) -> dict[str, Any]:
    """The same for `/v1/status`: what is known."""
    told = msgspec.structs.asdict(progress)
    is_waiting = progress.state == "wait"
    return {
        name: value
        for name, value in told.items()
        if value not in (None, "") or (name == "position" and is_waiting)
    }


class ProgressReports:
    """The reports of one request. For the event loop."""

    def __init__(
        self, look: Callable[[], RequestProgress], emit: Callable[[RequestProgress], None]
    ) -> None:
        """`look` says how far it is."""
        self._look = look
        self._emit = emit
        self._timer: asyncio.TimerHandle | None = None
        self._last: RequestProgress | None = None

    def follow(self, began_s: float) -> None:
        """Report on it from now on; `began_s` is when it came, of the monotonic clock."""
        self.stop()
        age_s = time.monotonic() - began_s
        self._again(max(LEAST_S, FIRST_S - age_s), began_s)

    def stop(self) -> None:
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, after_s: float, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(after_s, self._report, began_s)

    def _report(self, began_s: float) -> None:
        now = self._look()
        if self._last is None or _without_age(now) != _without_age(self._last):
            self._last = now
            self._emit(now)
        age_s = time.monotonic() - began_s
        self._again(min(MOST_S, max(LEAST_S, AGE_SHARE * age_s)), began_s)


def _without_age(progress: RequestProgress) -> RequestProgress:
    return msgspec.structs.replace(progress, state_s=0.0)
