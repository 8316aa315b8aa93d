"""The items of stored answers: as the beginning of a conversation, by reference, and as a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mlxdeck.server.dialects.base import StoredAnswer
from mlxdeck.server.dialects.sse import to_json
from mlxdeck.server.errors import BadRequest, UnknownStored

MAX_LIMIT = 100
_LIMIT = 20
_THOUGHTS = "rs_"


def conversation_items(answer: StoredAnswer | None) -> list[Any]:
    """All items of a conversation, up to an answer and with it."""
    found: list[Any] = []
    for each in answer.conversation() if answer else ():
        found += msgspec.json.decode(each.input) + msgspec.json.decode(each.output)
    return found


def quoted_items(items: list[Any], found: Mapping[str, StoredAnswer]) -> list[Any]:
    """Items with those that references name in their place.

    Raises:
        UnknownStored: One is not stored. A thought may be missing: those of earlier turns are
            left out anyway.
    """
    if not any(map(_is_reference, items)):
        return items
    answers = (msgspec.json.decode(answer.output) for answer in found.values())
    by_id = {item["id"]: item for output in answers for item in output}
    return [_quoted(item, by_id) if _is_reference(item) else item for item in items]


def _quoted(reference: dict[str, Any], by_id: Mapping[str, Any]) -> Any:
    item_id = reference["id"]
    if item_id not in by_id and not item_id.startswith(_THOUGHTS):
        raise UnknownStored(f"Item with id {item_id!r:.80} not found.", "input")
    return by_id.get(item_id, reference)


def _is_reference(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "item_reference"


def input_page(answer: StoredAnswer, query: Mapping[str, str]) -> bytes:
    """A page of the list of all items that an answer was given to; the newest first by default.

    Raises:
        BadRequest: The page is asked for in a wrong way.
    """
    items = conversation_items(answer.previous) + msgspec.json.decode(answer.input)
    listed = _named(items, answer.id)
    if (order := query.get("order", "desc")) not in ("asc", "desc"):
        raise BadRequest("order", f"expected asc or desc, got {order!r:.20}")
    if order == "desc":
        listed.reverse()
    limit = _limit(query.get("limit", str(_LIMIT)))
    ids = [item["id"] for item in listed]
    if (after := query.get("after")) is not None:
        if after not in ids:
            raise BadRequest("after", f"there is no item {after!r:.80}")
        listed = listed[ids.index(after) + 1 :]
    page = listed[:limit]
    return to_json(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(page) < len(listed),
        }
    )


def _named(items: list[Any], answer_id: str) -> list[dict[str, Any]]:
    """Items with ids by which a page can be asked for: those of clients need be none, or unique."""
    found: dict[str, dict[str, Any]] = {}
    for i, item in enumerate(items):
        own = item.get("id")
        is_good = isinstance(own, str) and own and own not in found
        item_id = own if is_good else f"item_{answer_id}_{i}"
        found[item_id] = {**item, "id": item_id}
    return list(found.values())


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise BadRequest("limit", f"expected a number from 1 to {MAX_LIMIT}, got {text!r:.20}")
