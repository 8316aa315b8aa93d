"""The number of parts of a JSON text, counted without decoding.

Decoding makes an object for each part, and holds the interpreter's lock until all are made: a tenth
of a second for half a million parts. Bodies with far more parts than real clients send are refused
before. Strings are separated from their surroundings with arrays, as in simdjson.
"""

from __future__ import annotations

import numpy as np

PIECE_BYTES = 512 * 1024
"""Looked at in one go, in a few milliseconds."""
_QUOTE, _BACKSLASH, _COMMA, _OPEN = ord('"'), ord("\\"), ord(","), ord("{")
_CASE = 0x20
"""The bit by which `[` differs from `{`."""


def count_parts(body: bytes, enough: int) -> int:
    """Values in objects and lists, and these themselves; no further than `enough`.

    Of what is no JSON, some number.
    """
    n_parts, in_string, escaped = 1, False, False
    for start in range(0, len(body), PIECE_BYTES):
        n_bytes = min(PIECE_BYTES, len(body) - start)
        piece = np.frombuffer(body, np.uint8, n_bytes, start)
        quotes = piece == _QUOTE
        slashes = piece == _BACKSLASH
        if escaped or slashes.any():
            quotes, escaped = _unescaped(quotes, slashes, escaped)
        inside = np.logical_xor.accumulate(quotes) ^ in_string
        n_parts += int(np.count_nonzero(((piece == _COMMA) | ((piece | _CASE) == _OPEN)) & ~inside))
        in_string = bool(inside[-1])
        if n_parts >= enough:
            break
    return n_parts


def _unescaped(quotes: np.ndarray, slashes: np.ndarray, escaped: bool) -> tuple[np.ndarray, bool]:
    """The quotes with an even number of backslashes before them, and whether the piece ends in an
    odd number of them."""
    places = np.arange(len(slashes), dtype=np.int32)
    # How far each place is from the last one that is no backslash.
    others = np.maximum.accumulate(np.where(slashes, np.int32(-1), places))
    run = places - others
    if escaped:
        # The run continues from the piece before.
        run[others == -1] += 1
    odd = (run & 1).astype(bool) & slashes
    before = np.empty_like(odd)
    before[0], before[1:] = escaped, odd[:-1]
    return quotes & ~before, bool(odd[-1])
