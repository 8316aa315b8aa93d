"""Bodies with far more in them than anybody sends, and those that are only long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.dialects import json_parts, surrogates
from mlxdeck.server.dialects.json_parts import count_parts
from mlxdeck.server.dialects.request_body import MAX_PARTS, decode_object
from mlxdeck.server.dialects.surrogates import text_alone, whole_value
from mlxdeck.server.errors import BadRequest

TEXTS = st.text(st.sampled_from('a"\\[]{},: \n\ud800\udc00é😀'), max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def n_parts(value: Any) -> int:
    """The same by walking: one for each comma and each opening, and one more."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(map(n_parts, inner))


@settings(deadline=None)
@given(VALUES, st.booleans(), st.integers(1, 7))
def test_parts_are_counted_outside_of_strings(value: Any, ascii_only: bool, piece: int) -> None:
    """However a text is escaped, and wherever a piece is cut."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "PIECE_BYTES", piece)
        assert count_parts(body, 10**9) == 1 + n_parts(value)


def test_no_more_is_counted_than_is_wanted() -> None:
    """The rest of a long body isn't looked at."""
    body = b"[" + b"1," * 2_000_000 + b"1]"
    assert MAX_PARTS <= count_parts(body, MAX_PARTS) < 1_000_000


@pytest.mark.parametrize(
    "part", [b'{"role":"user","content":"\\ud800"}', b"[[],[]]", b"1", b'{"a":{"b":[1,2]}}', b"NaN"]
)
def test_a_body_with_far_too_many_parts_is_refused_by_name(part: bytes) -> None:
    """Before any of them is made, whatever they are."""
    body = b'{"messages":[' + b",".join([part] * MAX_PARTS) + b"]}"
    with pytest.raises(BadRequest, match="more than 100,000 values"):
        decode_object(body)


def test_a_long_text_is_one_part() -> None:
    """Also one that looks like many."""
    text = '[{"a": [1, 2, 3]}, "\\"]' * 40_000
    assert decode_object(json.dumps({"system": text}).encode()) == {"system": text}


@settings(deadline=None)
@given(VALUES, st.integers(1, 9))
def test_halves_of_pairs_are_mended_in_the_bytes(value: Any, piece: int) -> None:
    """As they would be once decoded; whole pairs and escaped backslashes stay."""
    body = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogates, "_PIECE_BYTES", piece)
        assert json.loads(text_alone(body)) == whole_value(json.loads(body))


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(1, 5))
def test_what_is_no_utf_8_is_mended_wherever_a_piece_is_cut(raw: bytes, piece: int) -> None:
    """As if it had been decoded as a whole."""
    body = raw.replace(b"\\", b"/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogates, "_PIECE_BYTES", piece)
        assert text_alone(body).decode() == body.decode("utf-8", "replace")
