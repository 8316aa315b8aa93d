"""Schemas of tools that were read before, by what was sent. Any thread.

Agents send the same tools with each turn. To read those of Claude Code takes two milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mlxdeck.server.lru_map import LruMap
from mlxdeck.server.schemas.normalization import tool_schema

MAX_SCHEMAS = 512
MAX_BYTES = 2 * 1024**2
"""Of all of them as JSON; as objects they take several times as much."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _ReadSchema:
    schema: dict[str, Any]
    is_cut: bool


_known: LruMap[bytes, _ReadSchema] = LruMap(MAX_SCHEMAS, MAX_BYTES)


def known_tool_schema(
    told: dict[str, Any], path: str, cut: Callable[[], object] = bool
) -> dict[str, Any]:
    """As `tool_schema`; several requests share what is read, and none of them changes it.

    Raises:
        BadRequest: As `tool_schema` does.
    """
    try:
        sent = _encode(told)
    # Half a surrogate pair, or an integer of more than 64 bits.
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return tool_schema(told, path, cut)
    known = _known.get(sent)
    if known is None:
        cuts: list[None] = []
        known = _ReadSchema(tool_schema(told, path, lambda: cuts.append(None)), bool(cuts))
        _known.put(sent, known, len(sent))
    if known.is_cut:
        cut()
    return known.schema
