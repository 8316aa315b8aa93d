"""Parts of an answer that only this API's clients know, as another server wrote them."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.chat import Finished

CALLS = "tool_calls"


def joined(before: Any, more: Any) -> Any:
    """Two pieces of one value of a stream, put together as this API's clients do."""
    if isinstance(before, dict) and isinstance(more, dict):
        return before | {
            key: _calls(before.get(key) or [], more[key] or [])
            if key == CALLS
            else joined(before.get(key), more[key])
            for key in more
        }
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    return before if more is None else more


def _calls(before: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls, each of which comes in pieces with one index."""
    found = {call.get("index"): call for call in before}
    for piece in more:
        place = piece.get("index")
        rest = {key: value for key, value in piece.items() if key != "index"}
        found[place] = joined(found.get(place, {}), rest) | {"index": place}
    return list(found.values())


def added(message: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """A message with the parts of all deltas."""
    own = dict(delta)
    calls = [
        {key: value for key, value in call.items() if key != "index"} for call in own.pop(CALLS, [])
    ]
    if calls:
        message[CALLS] = [*message.get(CALLS, []), *calls]
        message["content"] = message["content"] or None
    return message | own


def beside(event: Finished) -> tuple[dict[str, Any], str | None]:
    """Fields of the whole completion, and the finish reason if it is one of this API alone."""
    foreign = event.foreign
    fields = dict(foreign.data) if foreign and foreign.dialect == "openai" else {}
    reason = fields.pop("finish_reason", None)
    return fields, reason if isinstance(reason, str) else None
