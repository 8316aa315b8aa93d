"""Results of a request's tool calls: the client sends them in the conversation's next request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from mlxdeck.telemetry.analyze.raw_lines import content, files_of, lines_of
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store

MAX_LATER = 3
"""A result is looked for in so many later requests of the session."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back."""

    text: str
    failed: bool


def results(store: Store, row: int, call_ids: Collection[str]) -> Mapping[str, Result]:
    """The results by the ids of their calls, as far as later requests were captured."""
    found: dict[str, Result] = {}
    for later in _later(store, row) if call_ids else ():
        start = next(
            (
                attrs
                for attrs in (codec.decode(raw).attrs for raw in lines_of(store, later))
                if isinstance(attrs, t.RequestStart)
            ),
            None,
        )
        if start is None:
            continue
        # The results are at the end, after the model's answer.
        parts = content(files_of(store, later), start.message_hashes[-(2 + len(call_ids)) :])
        for part in parts.values():
            found |= _told(part, call_ids)
        if len(found) == len(call_ids):
            break
    return found


def _later(store: Store, row: int) -> list[int]:
    session, order = int(store.column("session")[row]), store.by_start
    if not session:
        return []
    place = int(np.searchsorted(order.times, store.column("start_ts")[row], side="right"))
    rest = order.rows[place:]
    own = np.flatnonzero(store.column("session")[rest] == session)[:MAX_LATER]
    return [int(found) for found in rest[own]]


def _told(part: t.Content, call_ids: Collection[str]) -> dict[str, Result]:
    try:
        blocks: Any = msgspec.json.decode(part.content)
    except msgspec.DecodeError:
        return {}
    return {
        block["tool_use_id"]: Result(_text(block.get("content", "")), bool(block.get("is_error")))
        for block in (blocks if isinstance(blocks, list) else ())
        if isinstance(block, dict) and block.get("tool_use_id") in call_ids
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_text(each) for each in value)
    if isinstance(value, dict):
        return str(value.get("text", f"({value.get('type', '?')})"))
    return str(value)
