"""Canonical forms and digests of the last requests, by the bytes that they were read from.

An agent that asks the same again needs neither: both take about as long as sending a known answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlxdeck.server.chat import ChatRequest
from mlxdeck.server.lru_map import LruMap
from mlxdeck.server.request_facts import Accepted, Digests

MAX_ENTRIES = 64
MAX_BYTES = 2 * 1024**2
"""Of their bodies together; a request takes several times the bytes of its body."""


@dataclass(frozen=True, slots=True)
class CanonicalForm:
    """What was made of a request for one backend."""

    canonical: tuple[ChatRequest, tuple[str, ...]]
    """The request, and the rules that took something out of it."""
    parts: Digests
    taken: tuple[str, ...]
    """What those rules took out, for telemetry."""
    has_share: bool
    """Whether the backend has a share in the answer's key."""


class KnownForms:
    """The last ones. For the event loop."""

    def __init__(self) -> None:
        self._forms: LruMap[tuple[str, ...], CanonicalForm] = LruMap(MAX_ENTRIES, MAX_BYTES)

    def get(self, request: ChatRequest, route: str) -> CanonicalForm | None:
        """What was made of an equal request for that route, if that is known."""
        if not request.body_key:
            return None
        return self._forms.get(_named(request, route))

    def put(self, request: ChatRequest, route: str, accepted: Accepted, body_bytes: int) -> None:
        """Keep what was made of a request; what isn't known by its bytes is not kept."""
        if not request.body_key:
            return
        # Which notes apply is the backend's to say, each time.
        plain = replace(accepted.request, history_notes=request.history_notes)
        form = CanonicalForm(
            (plain, accepted.removed), accepted.parts, accepted.removed_parts, bool(accepted.share)
        )
        self._forms.put(_named(request, route), form, body_bytes)


def _named(request: ChatRequest, route: str) -> tuple[str, ...]:
    return request.body_key, request.model, request.owner, route
