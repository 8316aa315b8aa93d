"""An event as its one JSON line, and back.

A line of an earlier version means what it meant when it was written: `earlier` fills in what was
left out.
"""

from __future__ import annotations

import msgspec

from mlxdeck.telemetry.schema.events import EVENTS, SCHEMA_VERSION, Attrs


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
    ts: float
    mono: float
    seq: int
    pid: int
    event: str
    request_id: str = ""
    session_id: str = ""
    attrs: msgspec.Raw


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
) -> bytes:
    """Write an event as one line, newline included."""
    envelope = Envelope(
        v=SCHEMA_VERSION,
        ts=ts,
        mono=mono,
        seq=seq,
        pid=pid,
        event=attrs.NAME,
        request_id=request_id,
        session_id=session_id,
        attrs=msgspec.Raw(_encoder.encode(attrs)),
    )
    return _encoder.encode(envelope) + b"\n"


def decode(line: bytes) -> Line:
    """Read one line.

    Raises:
        NewerSchema: Its `v` is higher than this version's.
        Unreadable: It is no JSON object of the envelope's shape, or an attribute has a wrong type.
    """
    try:
        envelope = _envelopes.decode(line)
        if envelope.v > SCHEMA_VERSION:
            _refuse_newer(line)
        decoder = _attrs.get(envelope.event)
        attrs = decoder.decode(envelope.attrs) if decoder else None
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


class _Version(msgspec.Struct):
    v: int = 0


def _refuse_newer(line: bytes) -> None:
    """Whatever else is wrong with it: a newer version may write otherwise."""
    try:
        version = msgspec.json.decode(line, type=_Version).v
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"schema version {version}, but this mlxdeck reads up to {SCHEMA_VERSION}"
        )
