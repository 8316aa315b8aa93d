"""Calls that went out to clients, and the results that come back. For the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mlxdeck.server.chat import ChatRequest, Message, ToolResult, ToolUse
from mlxdeck.server.lru_map import LruMap
from mlxdeck.telemetry.schema import events as t

MAX_CALLS = 10_000
"""So many calls are remembered."""
MAX_NEW, MAX_BLOCKS = 100, 1_000
"""Results of one request that are told, and blocks behind the last answer that are looked at.
`n_untold` counts the others."""
MAX_TEXT = 10_000
"""Characters of a failure that are looked at for secrets; fewer are kept."""
DIGITS = 3


@dataclass(slots=True)
class _SentCall:
    sent_s: float | None
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class NewResult:
    """A result that came for the first time."""

    name: str
    """Of the tool; empty if the call isn't known."""
    result: ToolResult
    elapsed_s: float | None
    """Since the call was sent; None if it isn't known."""

    @property
    def failed(self) -> bool:
        """Whether the client says so."""
        return self.result.is_error

    def event(self, *, text: bool) -> t.CallResult:
        """What is recorded of it; with `text`, one that failed says why."""
        result, elapsed_s = self.result, self.elapsed_s
        return t.CallResult(
            name=self.name,
            call_id=result.tool_use_id,
            failed=result.is_error,
            result_bytes=len(result.text.encode("utf-8", "surrogatepass")),
            elapsed_s=None if elapsed_s is None else round(elapsed_s, DIGITS),
            text=result.text[:MAX_TEXT] if text and result.is_error else "",
        )


class SentCalls:
    """A client sends each result with all later requests; only the first time is told."""

    def __init__(self) -> None:
        self._calls: LruMap[tuple[str, str], _SentCall] = LruMap(MAX_CALLS)
        """By the session and the call's id, which is unique in it."""

    def sent(self, session_id: str, call_id: str) -> None:
        """A call went out."""
        self._calls.put((session_id, call_id), _SentCall(time.monotonic()))

    def results(self, session_id: str, asked: ChatRequest) -> list[NewResult]:
        """The results that a request brings for the first time, no more than `MAX_NEW`."""
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
            found.append(NewResult(names.get(result.tool_use_id, ""), result, elapsed_s))
        return found


def n_untold(asked: ChatRequest) -> int | None:
    """Results that `SentCalls.results` doesn't look at; None if there are none. Any thread."""
    behind: list[Message] = []
    for message in reversed(asked.messages):
        if message.role == "assistant":
            break
        behind.append(message)
    n_results = sum(isinstance(block, ToolResult) for block in _blocks(behind))
    return n_results - len(_since_answer(asked.messages)[1]) or None


def _since_answer(messages: Sequence[Message]) -> tuple[dict[str, str], list[ToolResult]]:
    """Names of the last answer's calls by their ids, and the results behind it."""
    place, least = len(messages), max(0, len(messages) - MAX_BLOCKS)
    while place > least and messages[place - 1].role != "assistant":
        place -= 1
    behind = islice(_blocks(messages[place:]), MAX_BLOCKS)
    results = [block for block in behind if isinstance(block, ToolResult)][:MAX_NEW]
    names: dict[str, str] = {}
    while results and place > least and messages[place - 1].role == "assistant":
        place -= 1
        blocks = islice(messages[place].blocks, MAX_BLOCKS)
        names |= {each.id: each.name for each in blocks if isinstance(each, ToolUse)}
    return names, results


def _blocks(messages: Sequence[Message]) -> Iterator[object]:
    return (block for message in messages for block in message.blocks)
