"""Values as texts and back, by the types of a schema: pure.

Reading, writing and grammars share one decision. If a schema allows only text, a text is literal.
If it allows other types, or none is given, a text that is JSON of the schema is read as JSON. So
the text `5` is then written `"5"`, in quotes, and so is any text that would be read as something
else.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from mlxdeck.server.lenient_json import decode_first
from mlxdeck.server.schemas.branches import ANYTHING, kinds_of_value
from mlxdeck.server.schemas.shape import Schema

_NONE = object()
_HALF = re.compile("[\ud800-\udfff]")


def to_json(value: Any) -> str:
    """As readable as possible; half of a surrogate pair becomes U+FFFD, which is valid everywhere.

    A number that is out of range becomes the nearest one in range.

    Raises:
        ValueError: There is no such number.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_in_range(value), ensure_ascii=False, allow_nan=False)
    return _HALF.sub("\ufffd", text)


def _in_range(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(sys.float_info.max, value)
    if isinstance(value, dict):
        return {key: _in_range(each) for key, each in value.items()}
    return [_in_range(each) for each in value] if isinstance(value, list) else value


def has_half(value: Any) -> bool:
    """Whether a value holds half of a surrogate pair, which is no character."""
    return bool(_HALF.search(json.dumps(value, ensure_ascii=False)))


def to_text(value: Any, schema: Schema | None = None, markup: Sequence[str] = ()) -> str:
    """The text that `from_text` reads as the value; a literal text must not contain `markup`."""
    if not isinstance(value, str):
        return to_json(value)
    if any(mark in value for mark in markup):
        quoted = to_json(value)
        for mark in markup:
            quoted = quoted.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
        return quoted
    back = from_text(value, schema, markup)[0] if schema else _as_escape(value, markup)
    return value if back == value and isinstance(back, str) else to_json(value)


def from_text(text: str, schema: Schema | None, markup: Sequence[str] = ()) -> tuple[Any, bool]:
    """The value of a text without quotes, and whether it was repaired.

    If nothing fits, the value is the text.
    """
    if schema is None:
        return text, False
    written = _decoded(text)
    if isinstance(written, str):
        return _quoted(text, written, schema, markup)
    if schema.text_only:
        return _chosen(text, schema)
    if written is not _NONE and schema.accepts(whole := _whole(written, schema)):
        return whole, False
    return _loosely(text, schema)


def _loosely(text: str, schema: Schema) -> tuple[Any, bool]:
    """A text that is no JSON of a schema: JSON that is a little off, or a text after all."""
    kinds = schema.kinds
    if kinds == ANYTHING:
        return text, False
    if "string" not in kinds and text.strip() in ("null", "None"):
        # Models omit a value like this; the client can decide better what to do.
        return None, False
    mended = _mended(text)
    if mended is not _NONE and kinds_of_value(mended) & (kinds - {"string"}):
        value = fitted(mended, schema)
        if schema.accepts(value):
            return value, text.strip() not in ("True", "False", "None")
        if not schema.accepts(text):
            return value, True
    return _chosen(text, schema)


def _as_escape(text: str, markup: Sequence[str]) -> str:
    written = _decoded(text)
    return written if isinstance(written, str) and _holds(written, markup) else text


def _holds(text: str, markup: Sequence[str]) -> bool:
    return any(mark in text for mark in markup)


def _quoted(text: str, written: str, schema: Schema, markup: Sequence[str]) -> tuple[Any, bool]:
    """The content of a quoted text: quotes are an escape where the text could not be literal."""
    if "string" not in schema.kinds:
        value, _ = from_text(written, schema, markup)
        return (value, True) if not isinstance(value, str) else (text, False)
    if not schema.accepts(written):
        return text, False
    if schema.kinds == ANYTHING:
        return written, False
    if _holds(written, markup) and not _holds(text, markup):
        return written, False
    if not schema.accepts(text):
        return written, True
    if not schema.text_only:
        bare, _ = from_text(written, schema, markup)
        if bare != written or not isinstance(bare, str):
            return written, False
    return text, False


def _chosen(text: str, schema: Schema) -> tuple[str, bool]:
    """A text, with the blanks around a listed one dropped."""
    stripped = text.strip()
    if text != stripped and schema.choices and stripped in schema.choices:
        return stripped, text not in schema.choices
    return text, False


def _decoded(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NONE


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _mended(text: str) -> Any:
    stripped = text.strip()
    try:
        value, end, _ = decode_first(stripped)
        to_json(value)
    except ValueError:
        return _NONE
    return value if end == len(stripped) else _NONE


def _whole(value: Any, schema: Schema) -> Any:
    """An integer that was written 5.0 as one, if fractions are not allowed."""
    value = _in_range(value) if isinstance(value, float) else value
    if isinstance(value, float) and value.is_integer() and "number" not in schema.kinds:
        return int(value)
    return value


def fitted(value: Any, schema: Schema, depth: int = 0) -> Any:
    """The value with texts converted to the types of the schema, where that fits.

    Also in the other direction: a number becomes its digits where a text is required.
    """
    if depth > 64 or schema.told in (None, True, {}):
        return value
    kinds = schema.kinds
    if isinstance(value, str) and "string" not in kinds and not schema.accepts(value):
        value, _ = from_text(value, schema)
    elif schema.text_only and isinstance(value, int | float) and not isinstance(value, bool):
        value = json.dumps(value)
    value = _whole(value, schema)
    if isinstance(value, dict):
        return {key: fitted(each, schema.member(key), depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [fitted(each, schema.item(n), depth + 1) for n, each in enumerate(value)]
    return value
