"""Lines of one file as columns, so that a store takes thousands at once. Pure.

The reading thread or a separate process makes batches, so that the store's thread has little left
to do. A repeated text occurs once a batch; this also makes the transfer between processes small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import msgspec
import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, unknown
from mlxdeck.telemetry.columns.heard import HeardProcess, heard
from mlxdeck.telemetry.read import fast_decode
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import Figure, Kind, told_by

UNREADABLE = "(unreadable)"
"""The name under which calls are found that have none, because they could not be read."""
UNREAD, REPAIRED, INVALID = 1, 2, 4
"""Faults of a call: it could not be read, its JSON was repaired, it is not as its schema says."""
MAX_ARGUMENTS = 2_000
"""Characters of a call's arguments that are kept; the whole of them is in the file."""

STATES = ("", "prepare", "wait", "prefill", "decode")
"""Of a running request; empty for one that a later version has."""
POINT_KINDS: Mapping[str, Any] = {
    "state_s": np.float32,
    "position": np.int16,
    "held": np.bool_,
    **dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "read_tokens", "output_tokens", "output_chars"), np.int32
    ),
}
"""Numbers of a `request.progress`, and how they are kept."""

_Kind = TypeVar("_Kind", bound=fast_decode.Head)
TEXT_NUMBER = np.uint8
"""For numbers of texts: there are few different ones, and a column becomes wider when it has to."""
KINDS: Mapping[Kind, Any] = {
    "seconds": np.float32,
    "tokens": np.int32,
    "count": np.int16,
    "text": TEXT_NUMBER,
    "list": TEXT_NUMBER,
    "choice": np.int8,
}
"""Type of the column of each kind of figure. Texts are numbers in a table of texts."""
_ENDS, _STARTS = told_by(t.RequestEnd), told_by(t.RequestStart)
_KINDS: Mapping[type[fast_decode.Head], int] = {
    kind: number for number, kind in enumerate(get_args(fast_decode.Skimmed))
}


_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: each text once, and for each value its place among them."""

    distinct: Sequence[str]
    places: GrowableArray

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        """Such a column of some texts."""
        distinct = dict.fromkeys(values)
        if len(distinct) < 2:
            # As most are: nothing has to be looked up for each value.
            return cls(list(distinct), np.zeros(len(values), np.int32))
        places = dict(zip(distinct, range(len(distinct)), strict=True))
        found = np.fromiter(map(places.__getitem__, values), np.int32, len(values))
        return cls(list(places), found)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that lines are about, in the order in which they appear: one value each."""

    names: GrowableArray
    """Their ids, as UTF-8."""
    begun_ts: GrowableArray
    """The time of the first line here."""
    first_offsets: GrowableArray
    last_offsets: GrowableArray
    pids: GrowableArray
    sessions: Texts


@dataclass(frozen=True, slots=True)
class Ends:
    """Requests that end here; `owners` are places in `Requests.names`, here and below."""

    owners: GrowableArray
    ts: GrowableArray
    figures: Mapping[str, GrowableArray]
    texts: Mapping[str, Texts]


@dataclass(frozen=True, slots=True)
class Starts:
    """Requests that begin here."""

    owners: GrowableArray
    figures: Mapping[str, GrowableArray]
    texts: Mapping[str, Texts]


@dataclass(frozen=True, slots=True)
class SharedParts:
    """Requests whose system prompt and tools were counted here."""

    owners: GrowableArray
    shared_tokens: GrowableArray


@dataclass(frozen=True, slots=True)
class Calls:
    """Tool calls."""

    owners: GrowableArray
    ts: GrowableArray
    names: Texts
    packed: Sequence[bytes]
    """Each as MessagePack of `events.ToolCall`, for few of them are ever looked at."""
    parsers: Texts
    """Formats that they were written in."""
    faults: GrowableArray
    """What was wrong with each: a sum of `UNREAD`, `REPAIRED` and `INVALID`."""
    ids: Sequence[str]
    argument_bytes: GrowableArray


@dataclass(frozen=True, slots=True)
class Results:
    """Results of tool calls."""

    ts: GrowableArray
    ids: Sequence[str]
    """Of their calls."""
    failed: GrowableArray
    elapsed_s: GrowableArray
    packed: Sequence[bytes]
    """Each as MessagePack of `events.CallResult`."""


@dataclass(frozen=True, slots=True)
class ProgressPoints:
    """How far requests were, as `events.RequestProgress` says it."""

    owners: GrowableArray
    ts: GrowableArray
    states: GrowableArray
    """Places in `STATES`."""
    waits_for: Texts
    numbers: Mapping[str, GrowableArray]
    """The other attributes, by their names in `POINT_KINDS`; less than 0 for unknown ones."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Lines of one file."""

    path: Path
    n_lines: int
    n_unknown: int
    first_ts: float
    last_ts: float
    requests: Requests
    ends: Ends
    starts: Starts
    shared: SharedParts
    calls: Calls
    progress: ProgressPoints
    results: Results
    ticks: Sequence[fast_decode.DecodedTick]
    headers: Sequence[fast_decode.DecodedHeader]
    stops: Sequence[fast_decode.StreamStopped]
    heard: Sequence[HeardProcess]

    @classmethod
    def of(
        cls, path: Path, lines: Sequence[fast_decode.Skimmed], offsets: fast_decode.Offsets
    ) -> RecordBatch:
        """`lines` is not empty; `offsets` are where each of them begins."""
        named = Texts.of([line.request_id for line in lines])
        names, owners = named.distinct, named.places
        if "" in names:
            kept = np.array([bool(name) for name in names])
            names = [name for name in names if name]
            owners = np.where(kept, np.cumsum(kept) - 1, -1)[owners]
        times = np.fromiter(map(attrgetter("ts"), lines), np.float64, len(lines))
        kinds = np.fromiter(map(_KINDS.__getitem__, map(type, lines)), np.int8, len(lines))
        present = set(np.flatnonzero(np.bincount(kinds)).tolist())
        none = np.zeros(0, np.intp)

        def those(
            kind: type[_Kind], least: int = -1
        ) -> tuple[GrowableArray, list[_Kind], GrowableArray]:
            number = _KINDS[kind]
            is_here = number in present
            places = np.flatnonzero((kinds == number) & (owners >= least)) if is_here else none
            found = [lines[place] for place in places.tolist()]
            return owners[places], cast("list[_Kind]", found), times[places]

        ends = _ends(*those(fast_decode.End, 0))
        requests = _requests(names, owners, lines, times, offsets)
        ticks = those(fast_decode.DecodedTick)[1]
        headers = those(fast_decode.DecodedHeader)[1]
        pids = {*requests.pids.tolist(), *(each.pid for each in (*ticks, *headers))}
        pids |= {lines[0].pid, lines[-1].pid}
        return cls(
            path=path,
            n_lines=len(lines),
            n_unknown=int((kinds == _KINDS[fast_decode.Unknown]).sum()),
            first_ts=float(times.min()),
            last_ts=float(times.max()),
            requests=requests,
            ends=ends,
            starts=_starts(*those(fast_decode.Start, 0)[:2]),
            shared=_shared(*those(fast_decode.Lookup, 0)[:2]),
            calls=_calls(*those(fast_decode.Call, 0)),
            progress=_progress(*those(fast_decode.DecodedProgress, 0)),
            results=_results(*those(fast_decode.DecodedResult, 0)[1:]),
            ticks=ticks,
            headers=headers,
            stops=those(fast_decode.StreamStopped)[1],
            heard=heard(
                lines, times, is_one=len(pids) == 1 and all(each is lines[0] for each in headers)
            ),
        )


def _requests(
    names: Sequence[str],
    owners: GrowableArray,
    lines: Sequence[fast_decode.Skimmed],
    times: GrowableArray,
    offsets: fast_decode.Offsets,
) -> Requests:
    places = np.flatnonzero(owners >= 0)
    owners = owners[places]
    first, last = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    last[owners] = places
    first[owners[::-1]] = places[::-1]
    begins = [lines[place] for place in first.tolist()]
    return Requests(
        names=np.array([name.encode() for name in names], "S"),
        begun_ts=times[first],
        first_offsets=offsets[first],
        last_offsets=offsets[last],
        pids=np.fromiter(map(attrgetter("pid"), begins), np.int64, len(begins)),
        sessions=Texts.of([line.session_id for line in begins]),
    )


def _ends(owners: GrowableArray, lines: Sequence[fast_decode.End], times: GrowableArray) -> Ends:
    told = _transposed([line.attrs for line in lines])
    figures = _numbers(_ENDS, told)
    # The last one of `fast_decode.EndAttrs`.
    operations = told[-1] if told else ()
    if not all(operations):
        _fill_in(figures, np.fromiter((not each for each in operations), bool, len(lines)))
    return Ends(owners, times, figures, _texts(_ENDS, told))


def _starts(owners: GrowableArray, lines: Sequence[fast_decode.Start]) -> Starts:
    told = _transposed([line.attrs for line in lines])
    return Starts(owners, _numbers(_STARTS, told), _texts(_STARTS, told))


def _transposed(attrs: Sequence[msgspec.Struct]) -> list[tuple[Any, ...]]:
    """Each attribute of all of them, in the order of the figures; empty for none of them."""
    return list(zip(*map(msgspec.structs.astuple, attrs), strict=True))


def _numbers(
    figures: Sequence[Figure], told: Sequence[tuple[Any, ...]]
) -> dict[str, GrowableArray]:
    """Columns of numbers and of choices."""
    found = {}
    for figure, values in zip(figures, told, strict=False):
        kind, n = KINDS[figure.kind], len(values)
        if figure.kind == "choice":
            codes = {text: place for place, text in enumerate(figure.choices)}
            coded = map(codes.get, values, repeat(figure.otherwise))
            found[figure.name] = np.fromiter(coded, kind, n)
        elif figure.is_number and values.count(figure.unknown) == n:
            found[figure.name] = np.full(n, figure.unknown, kind)
        elif figure.is_number:
            numbers = np.fromiter(values, kind, n)
            # A clock that was set back: nothing takes less than no time.
            numbers[numbers < 0] = figure.unknown
            found[figure.name] = numbers
    return found


def _texts(figures: Sequence[Figure], told: Sequence[tuple[Any, ...]]) -> dict[str, Texts]:
    """Columns of texts, as far as there are any."""
    found = {}
    for figure, values in zip(figures, told, strict=False):
        if figure.kind in ("text", "list") and any(values):
            joined = list(map(", ".join, values)) if figure.kind == "list" else values
            if any(joined):
                found[figure.name] = Texts.of(joined)
    return found


def _fill_in(figures: Mapping[str, GrowableArray], early: GrowableArray) -> None:
    """Fill in the attributes that lines of 0.1 omit."""
    ttft_s, unread = figures["ttft_s"], figures["input_tokens"] < 0
    # It wrote 0 where there was no token.
    ttft_s[early & (ttft_s <= 0)] = np.nan
    for figure in _ENDS:
        if figure.is_number and figure.omitted is not None:
            values = figures[figure.name]
            missing = early & unknown(values)
            # A prompt that was never tokenised has no token count.
            values[missing & ~unread if figure.kind == "tokens" else missing] = figure.omitted


def _shared(owners: GrowableArray, lines: Sequence[fast_decode.Lookup]) -> SharedParts:
    shared = np.fromiter((line.attrs.shared_tokens for line in lines), np.int32, len(lines))
    told = np.flatnonzero(shared)
    return SharedParts(owners[told], shared[told])


def _calls(owners: GrowableArray, lines: Sequence[fast_decode.Call], times: GrowableArray) -> Calls:
    calls = [_short(line.attrs) for line in lines]
    names = Texts.of([call.name or UNREADABLE for call in calls])
    parsers = Texts.of([call.parser for call in calls])
    faults = np.fromiter(map(_faults, calls), np.uint8, len(calls))
    ids = [call.call_id for call in calls]
    sizes = np.array([call.arguments_bytes or 0 for call in calls], np.int64)
    return Calls(owners, times, names, list(map(_pack, calls)), parsers, faults, ids, sizes)


def _results(lines: Sequence[fast_decode.DecodedResult], times: GrowableArray) -> Results:
    told = [line.attrs for line in lines]
    elapsed_s = [np.nan if each.elapsed_s is None else each.elapsed_s for each in told]
    return Results(
        times,
        [each.call_id for each in told],
        np.array([each.failed for each in told], bool),
        np.array(elapsed_s, np.float32),
        list(map(_pack, told)),
    )


def _progress(
    owners: GrowableArray, lines: Sequence[fast_decode.DecodedProgress], times: GrowableArray
) -> ProgressPoints:
    attrs = [line.attrs for line in lines]
    codes = {name: place for place, name in enumerate(STATES)}
    return ProgressPoints(
        owners,
        times,
        np.fromiter((codes.get(each.state, 0) for each in attrs), np.int8, len(attrs)),
        Texts.of([each.waits_for for each in attrs]),
        {
            name: np.fromiter(map(attrgetter(name), attrs), kind, len(attrs))
            for name, kind in POINT_KINDS.items()
        },
    )


def _faults(call: t.ToolCall) -> int:
    found = 0 if call.parse_ok else UNREAD
    found += REPAIRED if call.repaired else 0
    return found + (INVALID if call.schema_valid is False else 0)


def _short(call: t.ToolCall) -> t.ToolCall:
    if len(call.arguments) <= MAX_ARGUMENTS:
        return call
    return msgspec.structs.replace(call, arguments=call.arguments[:MAX_ARGUMENTS])


def batch(path: Path, raw: bytes, offset: int = 0) -> RecordBatch | None:
    """Whole lines of a file as a batch; None if none of them can be read."""
    block = fast_decode.skim(raw, offset)
    return RecordBatch.of(path, block.lines, block.offsets) if block.lines else None
