"""Lines of one file turned into columns, so that a store takes in thousands at once. Pure.

Made on the thread that reads; the store, on the thread that shows, has little left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numpy as np

from mlxdeck.telemetry import skim

OPEN, OK, ERROR, CANCELLED, LOST = range(5)
OUTCOMES = ("open", "ok", "error", "cancelled", "lost")
"""`lost`: its server stopped without saying how it ended."""
NO_CACHE, MISS, PREFIX, EXACT = range(4)
CACHES = ("", "miss", "prefix", "exact")

Column = np.ndarray[Any, np.dtype[Any]]
_Kind = TypeVar("_Kind", bound=skim.Head)
FIGURES: Mapping[str, Any] = {
    **dict.fromkeys(
        ("duration_s", "ttft_s", "queue_s", "tokenize_s", "cache_s", "prefill_s", "decode_s"),
        np.float32,
    ),
    **dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), np.int32),
    **dict.fromkeys(("status", "n_tool_calls"), np.int16),
}
"""The columns that hold what an attribute of a request's end says."""
CODES: Mapping[str, tuple[Callable[[skim.EndAttrs], str], Mapping[str, int]]] = {
    "outcome": (attrgetter("outcome"), {name: n for n, name in enumerate(OUTCOMES)}),
    "cache": (attrgetter("cache_result"), {name: n for n, name in enumerate(CACHES)}),
}
"""Columns with few values, by number; a value that isn't known here takes `UNKNOWN_CODES`'."""
UNKNOWN_CODES = {"outcome": OK, "cache": NO_CACHE}
TEXTS: Mapping[str, Callable[[skim.EndAttrs], str]] = {
    "finish": lambda end: ", ".join(end.finish_reasons),
    "error_type": attrgetter("error_type"),
    "tier": attrgetter("cache_tier"),
}
"""The same for columns of texts."""
_KINDS: Mapping[type[skim.Head], int] = {
    kind: number for number, kind in enumerate(get_args(skim.Skimmed))
}


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that lines are about, in the order in which they appear: one value each."""

    names: Sequence[str]
    begun_ts: Column
    """The time of the first line here."""
    first_offsets: Column
    last_offsets: Column
    pids: Sequence[int]
    sessions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ends:
    """Requests that end here; `owners` are places in `Requests.names`."""

    owners: Column
    ts: Column
    figures: Mapping[str, Column]
    texts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one file. A number before a line is the place of its request in `requests`."""

    path: Path
    n_lines: int
    n_unknown: int
    first_ts: float
    last_ts: float
    requests: Requests
    ends: Ends
    starts: Sequence[tuple[int, skim.Start]]
    first_tokens: Sequence[tuple[int, skim.FirstToken]]
    calls: Sequence[tuple[int, skim.Call]]
    ticks: Sequence[tuple[int, skim.Tick]]
    headers: Sequence[tuple[int, skim.Header]]
    stops: Sequence[tuple[int, skim.Stop]]

    @classmethod
    def of(cls, path: Path, lines: Sequence[skim.Skimmed], offsets: skim.Offsets) -> Batch:
        """`lines` is not empty; `offsets` are where each of them begins."""
        named = list(map(attrgetter("request_id"), lines))
        names = [name for name in dict.fromkeys(named) if name]
        numbers = {"": -1} | {name: number for number, name in enumerate(names)}
        owners = np.fromiter(map(numbers.__getitem__, named), np.int64, len(lines))
        times = np.fromiter(map(attrgetter("ts"), lines), np.float64, len(lines))
        kinds = np.fromiter(map(_KINDS.__getitem__, map(type, lines)), np.int8, len(lines))

        def those(kind: type[_Kind], *, owned: bool = False) -> list[tuple[int, _Kind]]:
            found = np.flatnonzero(kinds == _KINDS[kind])
            found = found[owners[found] >= 0] if owned else found
            chosen = [lines[place] for place in found.tolist()]
            return list(zip(owners[found].tolist(), cast("list[_Kind]", chosen), strict=True))

        return cls(
            path=path,
            n_lines=len(lines),
            n_unknown=len(those(skim.Unknown)),
            first_ts=float(times.min()),
            last_ts=float(times.max()),
            requests=_requests(names, owners, lines, times, offsets),
            ends=_ends(those(skim.End, owned=True)),
            starts=those(skim.Start, owned=True),
            first_tokens=those(skim.FirstToken, owned=True),
            calls=those(skim.Call, owned=True),
            ticks=those(skim.Tick),
            headers=those(skim.Header),
            stops=those(skim.Stop),
        )


def _requests(
    names: Sequence[str],
    owners: Column,
    lines: Sequence[skim.Skimmed],
    times: Column,
    offsets: skim.Offsets,
) -> Requests:
    places = np.flatnonzero(owners >= 0)
    owners = owners[places]
    first, last = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    last[owners] = places
    first[owners[::-1]] = places[::-1]
    begins = [lines[place] for place in first.tolist()]
    return Requests(
        names=names,
        begun_ts=times[first],
        first_offsets=offsets[first],
        last_offsets=offsets[last],
        pids=[line.pid for line in begins],
        sessions=[line.session_id for line in begins],
    )


def _ends(pairs: Sequence[tuple[int, skim.End]]) -> Ends:
    attrs, n = [line.attrs for _, line in pairs], len(pairs)
    figures = {
        name: np.fromiter(map(attrgetter(name), attrs), kind, n) for name, kind in FIGURES.items()
    }
    for name, (value, codes) in CODES.items():
        other = UNKNOWN_CODES[name]
        figures[name] = np.array([codes.get(value(end), other) for end in attrs], np.int8)
    return Ends(
        owners=np.array([owner for owner, _ in pairs], np.int64),
        ts=np.array([line.ts for _, line in pairs], np.float64),
        figures=figures,
        texts={name: list(map(value, attrs)) for name, value in TEXTS.items()},
    )


def batch(path: Path, raw: bytes, offset: int = 0) -> Batch | None:
    """Whole lines of a file as a batch; None if none of them can be read."""
    block = skim.skim(raw, offset)
    return Batch.of(path, block.lines, block.offsets) if block.lines else None
