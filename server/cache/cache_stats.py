"""Statistics of a cache: since the start, and over the last minutes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BUCKET_S = 10.0
WINDOWS_S = {"1m": 60, "5m": 300, "1h": 3600}


@dataclass(slots=True)
class Counts:
    """Lookups of a span of time."""

    hits: int = 0
    misses: int = 0
    hit_tokens: int = 0
    prompt_tokens: int = 0
    saved_s: float = 0.0

    def add(self, other: Counts) -> None:
        """Count another span's in."""
        self.hits += other.hits
        self.misses += other.misses
        self.hit_tokens += other.hit_tokens
        self.prompt_tokens += other.prompt_tokens
        self.saved_s += other.saved_s

    def report(self, s_per_token: float | None = 0.0) -> dict[str, Any]:
        """As JSON; a rate of nothing is null. `token_hit_rate` weighs lookups by their tokens.

        `s_per_token` is the time that a cached token saves beside `saved_s`; None if not known yet.
        """
        asked = self.hits + self.misses
        return {
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": self.hits / asked if asked else None,
            "hit_tokens": self.hit_tokens,
            "prompt_tokens": self.prompt_tokens,
            "token_hit_rate": (
                self.hit_tokens / self.prompt_tokens if self.prompt_tokens else None
            ),
            "saved_s": (
                None if s_per_token is None else self.saved_s + self.hit_tokens * s_per_token
            ),
        }


@dataclass(slots=True)
class CacheStats:
    """Counts of one tier. Safe to read while another thread adds."""

    clock: Callable[[], float] = time.monotonic
    total: Counts = field(default_factory=Counts)
    evictions: Counter[str] = field(default_factory=Counter)
    """Entries that were given up, by reason."""
    _buckets: deque[tuple[float, Counts]] = field(default_factory=deque)

    def add(self, counts: Counts) -> None:
        """Count a lookup, or the savings of one."""
        self.total.add(counts)
        began_s = self.clock() // BUCKET_S * BUCKET_S
        if not self._buckets or self._buckets[-1][0] != began_s:
            self._buckets.append((began_s, Counts()))
            while self._buckets[0][0] < began_s - max(WINDOWS_S.values()):
                self._buckets.popleft()
        self._buckets[-1][1].add(counts)

    def window(self, seconds: float) -> Counts:
        """The last `seconds`, exact to a bucket."""
        since_s = self.clock() - seconds
        counts = Counts()
        for began_s, bucket in reversed(tuple(self._buckets)):
            if began_s + BUCKET_S <= since_s:
                break
            counts.add(bucket)
        return counts

    def report(self, entries: int, n_bytes: int, s_per_token: float | None = 0.0) -> dict[str, Any]:
        """A tier's part of `GET /v1/cache`."""
        return {
            "entries": entries,
            "bytes": n_bytes,
            **self.total.report(s_per_token),
            "evictions": dict(self.evictions),
            "windows": {name: self.window(s).report(s_per_token) for name, s in WINDOWS_S.items()},
        }
