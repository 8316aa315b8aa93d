"""Bodies of `GET /v1/models` and `/v1/models/{id}`, in Anthropic's and OpenAI's shape at once.

https://platform.claude.com/docs/en/api/models/list and
https://platform.openai.com/docs/api-reference/models. Where they differ, they don't collide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdeck.server.errors import BadRequest, UnknownModel
from mlxdeck.server.service import Service

MAX_PAGE = 1000
"""Models of one page, as Anthropic's API limits it."""
_WINDOW = (
    *("max_input_tokens", "max_model_len"),
    *("context_window", "context_length"),
    *("max_context_length", "loaded_context_length"),
)
"""The window's names: Anthropic's, vLLM's, those that gateways use, LM Studio's."""

Entry = dict[str, Any]


def models(service: Service, query: Mapping[str, str]) -> dict[str, Any]:
    """The page of models that a query's `limit`, `after_id` and `before_id` ask for.

    Raises:
        BadRequest: They are malformed, or name no model.
    """
    return page(entries(service), query)


def model(service: Service, model_id: str) -> Entry:
    """One model.

    Raises:
        UnknownModel: There is none of that id.
    """
    known = entries(service)
    for each in known:
        if each["id"] == model_id:
            return each
    raise UnknownModel(model_id, [each["id"] for each in known])


def entries(service: Service) -> list[Entry]:
    """Every model that is served; its window is left out while it isn't known."""
    if not service.is_ready:
        return [entry(service.model)]
    most = service.settings.max_output_tokens
    found = [(each.name, each.context_tokens or 0) for each in service.backend.models()]
    return [entry(name, window, most or window) for name, window in found or [(service.model, 0)]]


def entry(name: str, context_tokens: int = 0, max_output_tokens: int = 0) -> Entry:
    """A model as clients read it; 0 for a figure that isn't known."""
    found: Entry = {
        "id": name,
        "type": "model",
        "object": "model",
        "display_name": name,
        # Both APIs have this date, and nobody knows it.
        "created_at": "1970-01-01T00:00:00Z",
        "created": 0,
        "owned_by": "mlxdeck",
        "lifecycle": "active",
    }
    if context_tokens:
        found |= dict.fromkeys(_WINDOW, context_tokens)
    if max_output_tokens:
        found["max_tokens"] = min(max_output_tokens, context_tokens or max_output_tokens)
    return found


def page(known: Sequence[Entry], query: Mapping[str, str]) -> dict[str, Any]:
    """A part of a list, behind `after_id` or in front of `before_id`. Pure.

    Raises:
        BadRequest: A parameter is malformed, or its id is not in the list.
    """
    limit = _limit(query)
    start, end = 0, len(known)
    if after := query.get("after_id"):
        start = _place(known, after, "after_id") + 1
    if before := query.get("before_id"):
        end = _place(known, before, "before_id")
    shown = list(known[start:end])
    has_more = len(shown) > limit
    # Backwards, a page is the one that ends in front of its cursor.
    shown = shown[-limit:] if before and not after else shown[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": has_more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _limit(query: Mapping[str, str]) -> int:
    said = query.get("limit") or str(MAX_PAGE)
    if not (said.isascii() and said.isdigit() and 1 <= int(said[:9]) <= MAX_PAGE):
        raise BadRequest("limit", f"must be between 1 and {MAX_PAGE}")
    return int(said[:9])


def _place(known: Sequence[Entry], model_id: str, name: str) -> int:
    for place, each in enumerate(known):
        if each["id"] == model_id:
            return place
    raise BadRequest(name, f"there is no model {model_id[:100]!r}")
