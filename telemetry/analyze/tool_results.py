"""Results of a request's tool calls: the client sends them in the conversation's next request.

Events tell of each whether it failed. Captured messages hold the whole text. Their calls are named
by their place in the conversation, as the canonical form has it, and not by the client's ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from mlxdeck.telemetry.analyze.raw_lines import content, files_of, lines_of
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store

MAX_LATER = 3
"""A result is looked for in so many later requests of the same agent."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back."""

    text: str
    failed: bool
    n_bytes: int
    """Length of the whole text."""
    elapsed_s: float = math.nan
    """From the call to its result; NaN if it is not known."""
    is_whole: bool = True
    """Whether the text is all that the tool said."""


def results(
    store: Store, row: int, calls: Sequence[t.ToolCall], as_of_ts: float = math.inf
) -> Mapping[str, Result]:
    """The results of a request's calls by the calls' ids, as far as they had come and are known."""
    found: dict[str, Result] = {}
    for call in calls:
        if told := store.results.of(call.call_id, as_of_ts):
            found[call.call_id] = _told(told.result)
    for text_id, whole in _captured(store, row, calls, as_of_ts).items():
        elapsed_s = found[text_id].elapsed_s if text_id in found else math.nan
        failed = whole.is_error or (text_id in found and found[text_id].failed)
        n_bytes = len(whole.text.encode("utf-8", "surrogatepass"))
        found[text_id] = Result(whole.text, failed, n_bytes, elapsed_s)
    return found


def _told(result: t.CallResult) -> Result:
    elapsed_s = math.nan if result.elapsed_s is None else result.elapsed_s
    is_whole = len(result.text.encode("utf-8", "surrogatepass")) >= result.result_bytes
    return Result(result.text, result.failed, result.result_bytes, elapsed_s, is_whole)


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    is_error: bool


def _captured(
    store: Store, row: int, calls: Sequence[t.ToolCall], as_of_ts: float
) -> dict[str, _Text]:
    """The texts of captured messages, by the calls' ids."""
    wanted = [call for call in calls if call.call_id]
    found: dict[str, _Text] = {}
    own = _start(store, row) if wanted else None
    if own is None:
        return found
    for later in _later(store, row, as_of_ts):
        start = _start(store, later)
        if start is None:
            continue
        # The answer with the calls stands behind all that was asked, and the results behind it.
        n_before = len(own.message_hashes)
        hashes = start.message_hashes[n_before : n_before + 2 + 2 * len(wanted)]
        parts = content(files_of(store, later), hashes)
        messages = [parts[each] for each in hashes if each in parts]
        found |= _texts(messages, wanted)
        if len(found) == len(wanted):
            break
    return found


def _start(store: Store, row: int) -> t.RequestStart | None:
    attrs = (codec.decode(raw).attrs for raw in lines_of(store, row))
    return next((each for each in attrs if isinstance(each, t.RequestStart)), None)


def _later(store: Store, row: int, as_of_ts: float) -> list[int]:
    """The next requests of the same agent."""
    session, agent, order = store.column("session"), store.column("agent"), store.by_start
    if not session[row]:
        return []
    begin = int(np.searchsorted(order.times, store.column("start_ts")[row], side="right"))
    end = int(np.searchsorted(order.times, as_of_ts, side="right"))
    rest = order.rows[begin:end]
    mine = (session[rest] == session[row]) & (agent[rest] == agent[row])
    return [int(found) for found in rest[np.flatnonzero(mine)[:MAX_LATER]]]


def _texts(messages: Sequence[t.Content], calls: Sequence[t.ToolCall]) -> dict[str, _Text]:
    blocks = [block for message in messages for block in _blocks(message)]
    ids = _call_ids(blocks, calls)
    return {
        ids[block["tool_use_id"]]: _Text(
            _text(block.get("content", "")), bool(block.get("is_error"))
        )
        for block in blocks
        if block.get("tool_use_id") in ids
    }


def _call_ids(blocks: Sequence[dict[str, Any]], calls: Sequence[t.ToolCall]) -> dict[str, str]:
    """The calls' ids by the ids that captured messages give them."""
    ids = {call.call_id: call.call_id for call in calls}
    waiting = list(calls)
    for block in blocks:
        if block.get("type") != "tool_use" or block.get("id") in ids:
            continue
        named = [call for call in waiting if call.name == block.get("name")]
        if named and isinstance(block.get("id"), str):
            waiting.remove(named[0])
            ids[block["id"]] = named[0].call_id
    return ids


def _blocks(part: t.Content) -> Iterator[dict[str, Any]]:
    try:
        blocks: Any = msgspec.json.decode(part.content)
    except msgspec.DecodeError:
        return
    yield from (each for each in (blocks if isinstance(blocks, list) else ()) if _is_block(each))


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("tool_use_id", ""), str)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_text(each) for each in value)
    if isinstance(value, dict):
        return str(value.get("text", f"({value.get('type', '?')})"))
    return str(value)
