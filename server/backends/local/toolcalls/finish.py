"""How an answer ended, once all of it has been read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import Finished, StopReason, Usage
from mlxdeck.server.errors import EngineFailed
from mlxdeck.server.request_facts import BadCall


def ending(
    splitter: Splitter, usage: Usage, *, cut: bool, looped: bool, forced: bool
) -> Iterator[BadCall | Finished]:
    """What could not be read, and the last event; `forced` says that the request demands a call.

    Raises:
        EngineFailed: There is no call, or one was broken off of which something had been sent.
    """
    yield from splitter.bad_calls
    if splitter.broken:
        raise EngineFailed(f"the model broke off a tool call: {splitter.broken}")
    looped = looped or splitter.looped
    reason = _stop_reason(splitter, cut=cut or looped, forced=forced)
    by: Literal["", "loop"] = "loop" if looped and reason == "max_tokens" else ""
    yield Finished(reason, usage, splitter.stopped_by, by, len(splitter.bad_calls))


def _stop_reason(splitter: Splitter, *, cut: bool, forced: bool) -> StopReason:
    if splitter.stopped_by is not None:
        return "stop_sequence"
    if forced and splitter.n_calls:
        # The required call is complete, except perhaps for its closing tag.
        return "tool_use"
    if cut:
        return "max_tokens"
    if forced:
        raise EngineFailed("the model made no call, but the request requires one")
    return "tool_use" if splitter.n_calls else "end_turn"
