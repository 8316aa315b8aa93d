"""Halves of surrogate pairs on their way out."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.dialects.surrogates import WholeEscapes, whole_value

texts = st.text(st.characters(exclude_categories=()) | st.sampled_from("\ud83d\ude00\\u😀\n"))


@given(st.dictionaries(texts, texts), st.lists(st.integers(1, 9)))
def test_arguments_are_passed_on_in_any_pieces(value: dict[str, str], sizes: list[int]) -> None:
    """What comes out is what went in, but for the halves; pairs stay pairs."""
    text, pieces = json.dumps(value), []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    escapes = WholeEscapes()
    out = "".join([*map(escapes.feed, [*pieces, text]), escapes.flush()])
    assert json.loads(out) == whole_value(json.loads(json.dumps(value)))
    out.encode()


@given(texts.map(json.dumps), st.data())
def test_what_is_cut_off_is_sent_whole(written: str, data: st.DataObject) -> None:
    """Nothing is held back for ever, and nothing else is changed."""
    cut = written[: data.draw(st.integers(0, len(written)))]
    escapes = WholeEscapes()
    out = "".join([*map(escapes.feed, cut), escapes.flush()])
    assert len(out) == len(cut)
    same = [(a, b) for a, b in zip(out, cut, strict=True) if a != b]
    assert "\\ufffd" in out or not same


def test_no_escape_of_jsons_is_left_alone() -> None:
    """A model may write anything."""
    for text in (r'{"a": "\ug and more"}', "\\", r"\u", r"\ud83", "\\u12"):
        escapes = WholeEscapes()
        assert escapes.feed(text) + escapes.flush() == text
