"""Answers as bytes, for tiers that outlive the process: JSON with a version and a code.

No pickle: bytes from a disk or another machine are data, and are checked like any other input. The
code is keyed and covers the key of the answer. Without the secret, nobody can forge an answer, or
use one for another key. If no secret is set, the code only detects damage.
"""

from __future__ import annotations

import dataclasses
import hmac
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from mlxdeck.server.cache.answers.memory import Answer, answer_of
from mlxdeck.server.chat import (
    Event,
    Finished,
    Foreign,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)

VERSION = b"mlxdeck-answer-3\n"
CODE_BYTES = 32
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(TextDelta, ThinkingDelta, ToolCallStart, ToolCallDelta, ToolCallEnd, Foreign, Finished),
    )
}


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    cost_s: float
    made_s: float
    events: list[tuple[str, dict[str, Any]]]


class Damaged(ValueError):
    """Bytes that are no answer, or not the answer that was stored under that key."""


def encode(answer: Answer, key: str, secret: bytes = b"") -> bytes:
    """An answer as bytes: version, code of the rest, JSON."""
    events: list[tuple[str, dict[str, Any]]] = [
        (type(event).__name__, dataclasses.asdict(event))
        for event in (*answer.deltas, answer.finished)
    ]
    body = msgspec.json.encode(_Stored(answer.cost_s, answer.made_s, events))
    return VERSION + _code(body, key, secret) + body


def decode(data: object, key: str, secret: bytes = b"") -> Answer:
    """The answer again.

    Raises:
        Damaged: It is something else.
    """
    if not isinstance(data, bytes) or not data.startswith(VERSION):
        raise Damaged("not an answer of this version")
    head = len(VERSION)
    code, body = data[head : head + CODE_BYTES], data[head + CODE_BYTES :]
    if not hmac.compare_digest(code, _code(body, key, secret)):
        raise Damaged("not whole, of another key, or made by somebody else")
    try:
        stored = msgspec.json.decode(body, type=_Stored)
        events: list[Event] = [
            msgspec.convert(fields, _KINDS[kind]) for kind, fields in stored.events
        ]
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise Damaged(f"not an answer: {type(error).__name__}") from error
    _check(events)
    if not all(math.isfinite(each) and each >= 0 for each in (stored.cost_s, stored.made_s)):
        raise Damaged("not an answer: of no time")
    return answer_of(events, stored.cost_s, stored.made_s)


def _code(body: bytes, key: str, secret: bytes) -> bytes:
    # The key is hexadecimal, so that no other key and body make the same bytes.
    return hmac.digest(secret, VERSION + key.encode() + b"\n" + body, "sha256")


def _check(events: Sequence[Event]) -> None:
    """Whether a stream may be made of them: calls one after the other, and one end."""
    in_call = False
    for place, event in enumerate(events):
        match event:
            case ToolCallStart():
                fits = not in_call
                in_call = True
            case ToolCallDelta():
                fits = in_call
            case ToolCallEnd():
                fits = in_call
                in_call = False
            case Finished(usage=usage):
                counts = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
                is_counted = all(count is None or count >= 0 for count in counts)
                fits = place == len(events) - 1 and not in_call and is_counted
            case Foreign():
                fits = True
            case _:
                fits = not in_call
        if not fits:
            raise Damaged(f"event {place} has no place in an answer")
    if not events or not isinstance(events[-1], Finished):
        raise Damaged("an answer without an end")
