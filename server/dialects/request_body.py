"""The bytes of a request as one JSON object.

Common errors of clients are repaired: a byte order mark, half a surrogate pair, bytes that are no
UTF-8. These halves and bytes become U+FFFD.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from mlxdeck.server.checkpoints import checkpoint
from mlxdeck.server.dialects.json_fields import join, typed
from mlxdeck.server.dialects.json_parts import count_parts
from mlxdeck.server.dialects.surrogates import text_alone, whole_text
from mlxdeck.server.errors import BadRequest
from mlxdeck.server.lenient_json import TooManyDigits, integer

_decoder = msgspec.json.Decoder()
MAX_PARTS = 100_000
"""Values in a body: ten times those of the longest conversations with the most tools."""
MAX_MENDED_BYTES = 4 * 1024**2
"""In a longer body that isn't JSON, only characters are repaired."""
_HISTORY = ("messages.", "input.")
_MARK = b"\xef\xbb\xbf"


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a body that must be one JSON object.

    Raises:
        BadRequest: It is none, is nested too deeply, has far too many parts, or has NaN, Infinity
            or an integer of thousands of digits outside of messages.
    """
    # No body has more parts than bytes.
    if len(body) > MAX_PARTS and count_parts(body, MAX_PARTS) >= MAX_PARTS:
        raise BadRequest("", f"the body holds more than {MAX_PARTS:,} values")
    try:
        value = _decoder.decode(body.removeprefix(_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _decode_again(body)
    return typed(value, dict, "")


def _decode_again(body: bytes) -> Any:
    checkpoint()
    try:
        return _decoder.decode(text_alone(body).removeprefix(_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if len(body) > MAX_MENDED_BYTES:
            raise BadRequest("", f"the body is not valid JSON: {error}") from error
    try:
        told = json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
        return mended(told, "")
    except RecursionError as error:
        raise BadRequest("", "the body is nested too deeply") from error
    except ValueError as error:
        raise BadRequest("", f"the body is not valid JSON: {error}") from error


class _LongInteger(str):
    """One that Python does not read."""


def _integer(digits: str) -> int | _LongInteger:
    try:
        return integer(digits)
    except TooManyDigits:
        return _LongInteger(digits)


def mended(value: Any, path: str) -> Any:
    """A decoded value without half surrogates, and without numbers that can't be read.

    In messages such a number becomes its text, because it is part of somebody's; elsewhere it is
    refused.
    """
    if isinstance(value, _LongInteger):
        if not path.startswith(_HISTORY):
            raise BadRequest(path, str(TooManyDigits()))
        return str(value)
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {
            whole_text(key): mended(each, join(path, whole_text(key)))
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [mended(each, f"{path}.{i}") for i, each in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        if not path.startswith(_HISTORY):
            raise BadRequest(path, f"expected a finite number, got {json.dumps(value)}")
        return json.dumps(value)
    return value
