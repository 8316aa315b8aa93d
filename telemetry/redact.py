"""Secrets in the arguments of tool calls, masked before they reach telemetry.

By the name of a field, and by the look of well-known keys anywhere in a text. A mask has a fixed
length, so that it doesn't tell how long the secret is. What looks like nothing known is kept: who
can't have that records with `--capture off`.
"""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "********"

_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|secret|api[_-]?key|access[_-]?key|private[_-]?key|credential"
    r"|(^|[_-])(auth|token)$|authorization|cookie",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|hf_\w{20,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
    r"|(?<=Bearer )[\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/:@\"]+:[^\s/@\"]+(?=@)"
)


def redacted(arguments: str) -> str:
    """JSON text with its secrets masked; text that is no JSON is searched by looks alone."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return _LOOKS.sub(MASK, arguments)
    masked = _masked(value)
    return arguments if masked == value else json.dumps(masked, ensure_ascii=False)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(inner, str) and _NAMES.search(key) else _masked(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return _LOOKS.sub(MASK, value) if isinstance(value, str) else value
