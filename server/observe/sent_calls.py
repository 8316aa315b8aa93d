"""Calls that went out to clients, and the results that come back. For the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxdeck.server.chat import ChatRequest, Message, ToolResult, ToolUse
from mlxdeck.server.lru_map import LruMap
from mlxdeck.telemetry.schema import events as t

MAX_CALLS = 10_000
"""So many calls are remembered."""
MAX_TEXT = 10_000
"""Characters of a failure that are looked at for secrets; fewer are kept."""
DIGITS = 3


@dataclass(slots=True)
class _SentCall:
    sent_s: float | None
    is_told: bool = False


class SentCalls:
    """A client sends each result with all later requests; only the first time is told."""

    def __init__(self) -> None:
        self._calls: LruMap[tuple[str, str], _SentCall] = LruMap(MAX_CALLS)
        """By the session and the call's id, which is unique in it."""

    def sent(self, session_id: str, call_id: str) -> None:
        """A call went out."""
        self._calls.put((session_id, call_id), _SentCall(time.monotonic()))

    def results(self, session_id: str, asked: ChatRequest, *, texts: bool) -> list[t.CallResult]:
        """The results that a request brings for the first time.

        With `texts`, those that failed say why.
        """
        found = []
        names, new = _since_answer(asked.messages)
        for result in new:
            call = self._calls.get((session_id, result.tool_use_id))
            if call is None:
                call = _SentCall(None)
                self._calls.put((session_id, result.tool_use_id), call)
            if call.is_told:
                continue
            call.is_told = True
            elapsed_s = None if call.sent_s is None else time.monotonic() - call.sent_s
            found.append(
                t.CallResult(
                    name=names.get(result.tool_use_id, ""),
                    call_id=result.tool_use_id,
                    failed=result.is_error,
                    result_bytes=len(result.text.encode("utf-8", "surrogatepass")),
                    elapsed_s=None if elapsed_s is None else round(elapsed_s, DIGITS),
                    text=result.text[:MAX_TEXT] if texts and result.is_error else "",
                )
            )
        return found


def _since_answer(messages: Sequence[Message]) -> tuple[dict[str, str], list[ToolResult]]:
    """Names of the last answer's calls by their ids, and the results behind it."""
    place = len(messages)
    while place and messages[place - 1].role != "assistant":
        place -= 1
    results = [block for block in _blocks(messages[place:]) if isinstance(block, ToolResult)]
    names: dict[str, str] = {}
    while results and place and messages[place - 1].role == "assistant":
        place -= 1
        calls = (each for each in messages[place].blocks if isinstance(each, ToolUse))
        names |= {each.id: each.name for each in calls}
    return names, results


def _blocks(messages: Sequence[Message]) -> Iterator[object]:
    return (block for message in messages for block in message.blocks)
