"""Answers as bytes, for tiers that outlive the process: JSON with a version and a checksum.

No pickle: what a disk or another machine returns is data, and is checked like any other input.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec

from mlxdeck.server.cache.answers.memory import Answer, answer_of
from mlxdeck.server.chat import (
    Event,
    Finished,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)

VERSION = b"mlxdeck-answer-2\n"
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (TextDelta, ThinkingDelta, ToolCallStart, ToolCallDelta, ToolCallEnd, Finished)
}


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    cost_s: float
    made_s: float
    events: list[tuple[str, dict[str, Any]]]


class Damaged(ValueError):
    """Bytes that are no answer, or no longer the one that was stored."""


def encode(answer: Answer) -> bytes:
    """An answer as bytes: version, sha256 of the rest, JSON."""
    events: list[tuple[str, dict[str, Any]]] = [
        (type(event).__name__, dataclasses.asdict(event))
        for event in (*answer.deltas, answer.finished)
    ]
    body = msgspec.json.encode(_Stored(answer.cost_s, answer.made_s, events))
    return VERSION + hashlib.sha256(body).digest() + body


def decode(data: bytes) -> Answer:
    """The answer again.

    Raises:
        Damaged: It is something else.
    """
    head = len(VERSION)
    digest, body = data[head : head + 32], data[head + 32 :]
    if not data.startswith(VERSION) or hashlib.sha256(body).digest() != digest:
        raise Damaged("not an answer of this version, or not whole")
    try:
        stored = msgspec.json.decode(body, type=_Stored)
        events: list[Event] = [
            msgspec.convert(fields, _KINDS[kind]) for kind, fields in stored.events
        ]
    except (msgspec.MsgspecError, KeyError) as error:
        raise Damaged(f"not an answer: {error}") from error
    if not events or not isinstance(events[-1], Finished):
        raise Damaged("an answer without an end")
    return answer_of(events, stored.cost_s, stored.made_s)
