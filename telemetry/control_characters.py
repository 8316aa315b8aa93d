"""Characters that a terminal obeys instead of showing them, and JSON that holds none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

_C0, _DEL_AND_C1 = range(32), range(0x7F, 0xA0)
_ORDERING = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that change the reading order of text: Unicode's UAX 9."""
_SEPARATORS = (0x2028, 0x2029)
CONTROLS: Mapping[int, None] = dict.fromkeys([*_C0, *_DEL_AND_C1, *_ORDERING, *_SEPARATORS])
"""For `str.translate`: the control characters C0, DEL and C1 of ECMA-48 part 5, with which escape
sequences begin, and those that reorder text."""
_ESCAPED = {code: f"\\u{code:04x}" for code in CONTROLS if code >= 0x7F}


def shown_json(value: Any, *, indent: int | None = None) -> str:
    """JSON for a terminal: the same value, with all of these written as escapes."""
    text = json.dumps(value, ensure_ascii=False)
    if indent:
        # json indents in Python: half of the time of a report over a week.
        text = msgspec.json.format(text, indent=indent)
    return text.translate(_ESCAPED)


def shown(text: str) -> str:
    """One line of text for a terminal, without any of these."""
    return text.translate(CONTROLS)
