"""How far a running request was at a moment, and how fast it went. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlxdeck.telemetry.schema.events import FirstToken
from mlxdeck.telemetry.store.progress_history import ProgressPoint
from mlxdeck.telemetry.store.store import Store

RATE_S = 10.0
"""How far back a speed looks."""
LEAST_S = 0.4
"""From a shorter time no speed is computed."""


@dataclass(frozen=True, slots=True)
class RunningProgress:
    """What is known of it; numbers less than 0 are not known."""

    state: str
    """`prepare`, `wait`, `prefill`, `decode`, or empty."""
    waits_for: str
    position: int
    prompt_tokens: int
    cached_tokens: int
    read_tokens: int
    output_tokens: int
    output_chars: int
    """Also where the tokens are not known, as another server's are."""
    held: bool
    """Whether a grammar constrains what is written."""
    state_s: float
    """Since when it is in this state."""
    per_s: float
    """Tokens a second that are read, or written; characters, if tokens are not known. NaN if it
    does neither, or only just began."""

    @property
    def read_share(self) -> float:
        """How much of the prompt is read, from 0 to 1; NaN if that is not known."""
        if self.prompt_tokens <= 0 or self.read_tokens < 0:
            return math.nan
        return min(1.0, self.read_tokens / self.prompt_tokens)

    @property
    def left_s(self) -> float:
        """How long it will go on reading at this speed; NaN if it doesn't read."""
        if self.state != "prefill" or not self.per_s > 0:
            return math.nan
        return max(0.0, (self.prompt_tokens - self.read_tokens) / self.per_s)


def running_progress(store: Store, row: int, now_ts: float) -> RunningProgress | None:
    """Of a request that runs at a moment; None before its first report."""
    history = store.progress
    places = history.of(row, float(store.column("start_ts")[row]), now_ts)
    if not places:
        return None
    last = history.point(places[-1])
    since_ts = last.ts - last.state_s
    before = None
    for place in reversed(places[:-1]):
        point = history.point(place)
        if point.state != last.state or point.ts < max(since_ts, last.ts - RATE_S):
            break
        before = point
    return RunningProgress(
        state=last.state,
        waits_for=last.waits_for,
        position=last.position,
        prompt_tokens=last.prompt_tokens,
        cached_tokens=last.cached_tokens,
        read_tokens=last.read_tokens,
        output_tokens=last.output_tokens,
        output_chars=last.output_chars,
        held=last.held,
        state_s=max(0.0, now_ts - since_ts),
        per_s=_speed(last, before),
    )


def _speed(last: ProgressPoint, before: ProgressPoint | None) -> float:
    """Since an earlier point of the same state, else since that state began."""
    done, done_before = _done(last), 0
    if last.state == "prefill":
        done_before = max(0, last.cached_tokens)
    span_s = last.state_s
    if before is not None and last.ts - before.ts >= LEAST_S:
        done_before, span_s = _done(before), last.ts - before.ts
    if done < 0 or span_s < LEAST_S:
        return math.nan
    return max(0, done - done_before) / span_s


def _done(point: ProgressPoint) -> int:
    """What its state is about: tokens read, or tokens written."""
    if point.state == "prefill":
        return point.read_tokens
    if point.state == "decode":
        return point.output_tokens if point.output_tokens >= 0 else point.output_chars
    return -1


def phases_s(
    of: RunningProgress | None, first: FirstToken | None, age_s: float
) -> dict[str, float]:
    """Seconds of the phases so far, of a request that runs since `age_s`; NaN for unknown ones.

    The phase that it is in grows. Before its first token, what came before that phase is the queue.
    """
    if first is not None:
        found = {
            "tokenize": first.tokenize_s,
            "cache": first.cache_s,
            "queue": first.queue_s,
            "load": first.load_s or math.nan,
            "prefill": first.prefill_s,
        }
        return found | {"decode": max(0.0, age_s - first.ttft_s)}
    if of is None:
        return {}
    now = {"prepare": "tokenize", "wait": "queue", "prefill": "prefill", "decode": "decode"}
    found = {now[of.state]: min(of.state_s, age_s)} if of.state in now else {}
    if of.state == "prefill":
        found["queue"] = max(0.0, age_s - of.state_s)
    return found
