"""Decodes only the part of each line that a store needs, many lines at once: four times as fast.

A block of lines is decoded in one call. If that fails, its lines are decoded one by one, and bad
lines are reported. `events.decode` reads the omitted parts again, when a user opens a request's
details.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.attributes import Moment, Pid, Seconds, SmallCount, Tokens
from mlxdeck.telemetry.schema.figures import UNKNOWN_NUMBER, Kind, told_by

NEWLINE = 10


_Name = Annotated[str, msgspec.Meta(max_length=100)]


class Head(msgspec.Struct, kw_only=True, gc=False, tag_field="event"):
    """What every line has."""

    v: Literal[1]
    """As `events.SCHEMA_VERSION`: lines of another version are decoded one by one."""
    ts: Moment
    pid: Pid
    request_id: _Name = ""
    session_id: str = ""


_TYPES: Mapping[Kind, Any] = {
    "seconds": Seconds,
    "tokens": Tokens,
    "count": SmallCount,
    "text": str,
    "list": tuple[str, ...],
    "choice": str,
}
_EMPTY: Mapping[Kind, Any] = {"text": "", "list": (), "choice": ""}


def _attrs(name: str, event: type[t.Attrs], *others: tuple[str, Any, Any]) -> Any:
    """A struct of an event's figures; each is `unknown` where a line lacks it."""
    fields = [
        (
            figure.name,
            _TYPES[figure.kind],
            msgspec.field(default=_EMPTY.get(figure.kind, figure.unknown), name=figure.attribute),
        )
        for figure in told_by(event)
    ]
    return msgspec.defstruct(name, [*fields, *others], gc=False, module=__name__)


if TYPE_CHECKING:

    class StartAttrs(msgspec.Struct):
        """Of `events.RequestStart`: its figures."""

    class EndAttrs(msgspec.Struct):
        """Of `events.RequestEnd`: its figures."""

        operation: str
        """Empty in a line of 0.1, which omitted default values."""

else:
    StartAttrs = _attrs("StartAttrs", t.RequestStart)
    _OPERATION = msgspec.field(default="", name="gen_ai.operation.name")
    EndAttrs = _attrs("EndAttrs", t.RequestEnd, ("operation", str, _OPERATION))


class LookupAttrs(msgspec.Struct, gc=False):
    """Of `events.CacheLookup`."""

    shared_tokens: Tokens = msgspec.field(default=0, name="mlx.prompt.shared_tokens")


class ProgressAttrs(msgspec.Struct, gc=False):
    """Of `events.RequestProgress`; its text is read again when somebody looks at it."""

    state: str = msgspec.field(default="", name="mlx.progress.state")
    state_s: Seconds = msgspec.field(default=0.0, name="mlx.progress.state_s")
    position: SmallCount = msgspec.field(default=UNKNOWN_NUMBER, name="mlx.queue.position")
    waits_for: str = msgspec.field(default="", name="mlx.queue.reason")
    prompt_tokens: Tokens = msgspec.field(default=UNKNOWN_NUMBER, name="gen_ai.usage.input_tokens")
    cached_tokens: Tokens = msgspec.field(
        default=UNKNOWN_NUMBER, name="gen_ai.usage.cache_read.input_tokens"
    )
    read_tokens: Tokens = msgspec.field(default=UNKNOWN_NUMBER, name="mlx.progress.read_tokens")
    output_tokens: Tokens = msgspec.field(default=UNKNOWN_NUMBER, name="gen_ai.usage.output_tokens")
    output_chars: Tokens = msgspec.field(default=UNKNOWN_NUMBER, name="mlx.progress.output_chars")
    held: bool = msgspec.field(default=False, name="mlx.progress.held")


class DecodedHeader(Head, kw_only=True, gc=False, tag=t.StreamStart.NAME):
    attrs: t.StreamStart


class StreamStopped(Head, kw_only=True, gc=False, tag=t.ServerStop.NAME):
    attrs: t.ServerStop


class Start(Head, kw_only=True, gc=False, tag=t.RequestStart.NAME):
    attrs: StartAttrs


class DecodedFirstToken(Head, kw_only=True, gc=False, tag=t.FirstToken.NAME):
    """Only its place in the file is needed: the end repeats its figures."""


class Call(Head, kw_only=True, gc=False, tag=t.ToolCall.NAME):
    attrs: t.ToolCall


class DecodedResult(Head, kw_only=True, gc=False, tag=t.CallResult.NAME):
    attrs: t.CallResult


class End(Head, kw_only=True, gc=False, tag=t.RequestEnd.NAME):
    attrs: EndAttrs


class DecodedTick(Head, kw_only=True, gc=False, tag=t.Tick.NAME):
    attrs: t.Tick


class Lookup(Head, kw_only=True, gc=False, tag=t.CacheLookup.NAME):
    attrs: LookupAttrs


class DecodedContent(Head, kw_only=True, gc=False, tag=t.Content.NAME):
    """Only its place in the file is needed."""


class DecodedProgress(Head, kw_only=True, gc=False, tag=t.RequestProgress.NAME):
    attrs: ProgressAttrs


class DecodedError(Head, kw_only=True, gc=False, tag=t.Error.NAME):
    """Only its place in the file is needed."""


class DecodedModelLoad(Head, kw_only=True, gc=False, tag=t.ModelLoad.NAME):
    """Ticks say which models are loaded."""


class DecodedModelUnload(Head, kw_only=True, gc=False, tag=t.ModelUnload.NAME):
    """The same."""


class Unknown(Head, kw_only=True, gc=False, tag=""):
    """An event that this version doesn't know."""


Skimmed: TypeAlias = (
    DecodedHeader
    | StreamStopped
    | Start
    | DecodedFirstToken
    | Call
    | DecodedResult
    | End
    | DecodedTick
    | Lookup
    | DecodedContent
    | DecodedProgress
    | DecodedError
    | DecodedModelLoad
    | DecodedModelUnload
    | Unknown
)
Offsets: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"

_decoder = msgspec.json.Decoder(Skimmed)


class Bad(NamedTuple):
    """A line that could not be read, and why."""

    offset: int
    reason: str
    newer: bool
    """Whether it was written by a newer version."""


class DecodedBlock(NamedTuple):
    """Consecutive lines of a file, and the offset of each."""

    lines: list[Skimmed]
    offsets: Offsets
    bad: list[Bad]


def skim(raw: bytes, offset: int = 0) -> DecodedBlock:
    """Decode whole lines, each with its newline; `offset` is the place of the first line."""
    ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == NEWLINE)
    try:
        lines: list[Skimmed] = _decoder.decode_lines(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _one_by_one(raw, offset)
    if len(lines) != len(ends):
        return _one_by_one(raw, offset)
    starts = np.empty(len(ends), np.int64)
    starts[:1] = offset
    starts[1:] = ends[:-1] + (offset + 1)
    return DecodedBlock(lines, starts, [])


def _one_by_one(raw: bytes, offset: int) -> DecodedBlock:
    lines, offsets, bad = [], [], []
    for line in raw.split(b"\n"):
        if marked := line.removeprefix(codec.UTF8_MARK).strip():
            try:
                lines.append(_single(marked))
                offsets.append(offset)
            except codec.Unreadable as error:
                bad.append(Bad(offset, _in_words(error), isinstance(error, codec.NewerSchema)))
        offset += len(line) + 1
    return DecodedBlock(lines, np.array(offsets, np.int64), bad)


def _in_words(error: codec.Unreadable) -> str:
    """`attrs.duration: expected float, got str`, instead of how the decoder says it."""
    found = _AT.fullmatch(str(error))
    if found is None:
        return str(error)
    reason = found[1].replace("`", "")
    return f"{found[2]}: {reason[:1].lower()}{reason[1:]}"


_AT = re.compile(r"(.*) - at `\$\.(.*)`")


def _single(raw: bytes) -> Skimmed:
    try:
        line: Skimmed = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Reports the error, unless only the event is unknown to this version.
        full = codec.decode(raw)
        if full.event in t.EVENTS:
            raise codec.Unreadable(str(error)) from error
    else:
        return line
    return Unknown(
        v=1,
        ts=full.ts,
        pid=full.pid,
        request_id=full.request_id,
        session_id=full.session_id,
    )
