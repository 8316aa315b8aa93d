"""An event as its one JSON line, and back.

A line of 0.1 keeps its meaning: omitted values are filled in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from mlxdeck.telemetry.schema.attributes import Moment, Pid
from mlxdeck.telemetry.schema.events import EVENTS, SCHEMA_VERSION, Attrs, RequestEnd
from mlxdeck.telemetry.schema.figures import told_by


class Unreadable(ValueError):
    """A line that is no event; the text says why."""


class NewerSchema(Unreadable):
    """A line written by a newer mlxdeck, whose meaning this one can't know."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded line: the envelope, and its attributes if the event is a known one."""

    ts: float
    mono: float
    seq: int
    pid: int
    event: str
    request_id: str
    session_id: str
    attrs: Attrs | None
    """None for an event that this version doesn't know."""


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What every line says, around the attributes of its event."""

    v: int
    """Version of the schema; a reader refuses a higher one than its own."""
    ts: Moment
    """When it happened, in Unix seconds."""
    mono: float
    """The same of a clock that never jumps, for durations within a process."""
    seq: int
    """Number of the line in its process; a gap means that lines were lost."""
    pid: Pid
    """Process that wrote it."""
    event: str
    """What happened; events that a reader doesn't know are to be skipped."""
    request_id: str = ""
    """The server's name of the request that it is about."""
    session_id: str = ""
    """The client's name of its session."""
    attrs: msgspec.Raw
    """Attributes of the event."""


UTF8_MARK = b"\xef\xbb\xbf"
"""Some editors put it in front of a text."""
_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(Envelope)
_attrs = {name: msgspec.json.Decoder(kind) for name, kind in EVENTS.items()}


def encode(
    attrs: Attrs,
    *,
    ts: float,
    mono: float,
    seq: int,
    pid: int,
    request_id: str = "",
    session_id: str = "",
    unknown: Collection[str] = (),
) -> bytes:
    """Write an event as one line, newline included.

    What JSON can't hold is replaced: halves of surrogate pairs, and whole numbers beyond 64 bits.
    `unknown` fields are left out, also of those that every line has.
    """
    try:
        body = _encoder.encode(attrs)
    except (UnicodeEncodeError, OverflowError):
        values = {name: _fit(getattr(attrs, name)) for name in attrs.__struct_fields__}
        body = _encoder.encode(type(attrs)(**values))
    if unknown:
        pairs = zip(attrs.__struct_fields__, attrs.__struct_encode_fields__, strict=True)
        names = {encoded for name, encoded in pairs if name in unknown}
        told = msgspec.json.decode(body)
        body = _encoder.encode({name: value for name, value in told.items() if name not in names})
    envelope = Envelope(
        v=SCHEMA_VERSION,
        ts=ts,
        mono=mono,
        seq=seq,
        pid=pid,
        event=attrs.NAME,
        request_id=request_id if request_id.isascii() else _fit(request_id),
        session_id=session_id if session_id.isascii() else _fit(session_id),
        attrs=msgspec.Raw(body),
    )
    return _encoder.encode(envelope) + b"\n"


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value
            if value.isascii()
            else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, tuple):
        return tuple(map(_fit, value))
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return 2**63 - 1 if value > 0 else -(2**63)
    return value


def decode(line: bytes) -> Line:
    """Read one line.

    Raises:
        NewerSchema: Its `v` is higher than this version's.
        Unreadable: It is no JSON object of the envelope's shape, or an attribute has a wrong type.
    """
    try:
        envelope = _envelopes.decode(line.removeprefix(UTF8_MARK))
        if envelope.v > SCHEMA_VERSION:
            _refuse_newer(line)
        decoder = _attrs.get(envelope.event)
        attrs = decoder.decode(envelope.attrs) if decoder else None
        if isinstance(attrs, RequestEnd) and _OPERATION not in bytes(envelope.attrs):
            attrs = _as_meant(attrs)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_newer(line)
        raise Unreadable(str(error)) from error
    return Line(
        ts=envelope.ts,
        mono=envelope.mono,
        seq=envelope.seq,
        pid=envelope.pid,
        event=envelope.event,
        request_id=envelope.request_id,
        session_id=envelope.session_id,
        attrs=attrs,
    )


_OPERATION = b'"gen_ai.operation.name"'
"""Values that 0.1 omitted from each request's end, because they were always the same."""


def _as_meant(end: RequestEnd) -> RequestEnd:
    """A request's end with the zeros that 0.1 omitted."""
    meant: dict[str, Any] = {
        figure.name: figure.omitted
        for figure in told_by(RequestEnd)
        if figure.is_number and getattr(end, figure.name) is None and figure.omitted is not None
    }
    # It wrote 0 where there was no token.
    meant |= {
        name: None for name in ("ttft_s", "time_per_output_token_s") if getattr(end, name) == 0
    }
    return msgspec.structs.replace(end, **meant)


class _Version(msgspec.Struct):
    v: int = 0


def _refuse_newer(line: bytes) -> None:
    """Raised before any other check, because a newer version may write other forms."""
    try:
        version = msgspec.json.decode(line, type=_Version).v
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"schema version {version}, but this mlxdeck reads up to {SCHEMA_VERSION}"
        )
