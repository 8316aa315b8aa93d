"""Server-sent events out of bytes that come in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.server.backends.upstream.sse_reader import SseReader

DATA = st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), min_size=1, max_size=20)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(DATA, min_size=1, max_size=5), LINE_ENDS, st.lists(st.integers(0, 400), max_size=8))
def test_pieces_make_no_difference(texts: list[str], end: bytes, cuts: list[int]) -> None:
    """Events come out whole, wherever the bytes are cut and however lines end."""
    events = [b"event: x%b: note%bdata: %b%b%b" % (end, end, t.encode(), end, end) for t in texts]
    stream = b"\xef\xbb\xbf" + b"".join(events)
    reader, found = SseReader(10_000), []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in zip(places, places[1:], strict=False):
        found += reader.feed(stream[start:stop])
    assert found == [text.encode() for text in texts]
    assert reader.is_between


def test_lines_of_data_are_one_event() -> None:
    """They are joined by line breaks; other fields are skipped."""
    assert SseReader(100).feed(b"id: 1\ndata: a\ndata:b\n\ndata\n\n") == [b"a\nb", b""]


@pytest.mark.parametrize("piece", [b"data: xxxx\n", b"x" * 11])
def test_what_has_no_end_is_bounded(piece: bytes) -> None:
    """Lines of one event, and a line, take only so much memory."""
    reader = SseReader(1000)
    n_fed = 0
    while not reader.is_too_long:
        reader.feed(piece)
        n_fed += 1
    assert n_fed < 1000 // 6


def test_a_cut_event_is_noticed() -> None:
    """In a line, or between the lines of an event."""
    for cut in (b"data: a", b"data: a\n"):
        reader = SseReader(100)
        reader.feed(cut)
        assert not reader.is_between
    reader.feed(b"\n")
    assert reader.is_between
