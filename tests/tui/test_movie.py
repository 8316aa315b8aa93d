"""The moving picture: frames of lines, each line drawn once."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from textual.strip import Strip

from tests.movie import svg

LINES = st.text(st.sampled_from("ab <&█▀│─▄é"), max_size=12)


@given(st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_each_frame_shows_its_lines_and_equal_lines_are_drawn_once(told: list[list[str]]) -> None:
    """Well-formed, and at each time one frame is seen."""
    frames = [([Strip([Segment(line)]) for line in lines], 0.5) for lines in told]
    drawn = ElementTree.fromstring(svg(frames, (12, 4)))
    names = [each.get("id") for each in drawn.iter() if each.get("id")]
    used = [each.get("href", "") for each in drawn.iter() if each.get("href")]
    assert len(used) == sum(map(len, told))
    assert {name.removeprefix("#") for name in used} == set(names)
    assert len(names) <= len({line.rstrip() for lines in told for line in lines})
    style = next(each.text or "" for each in drawn.iter() if each.tag.endswith("style"))
    ends = re.findall(r"([\d.]+)%\{visibility:visible\}([\d.]+)%", style)
    assert len(ends) == len(told)
    assert [begin for begin, _ in ends][1:] == [end for _, end in ends][:-1]
    shown = " ".join(each.text or "" for each in drawn.iter() if each.tag.endswith("text"))
    assert all(
        word in shown for lines in told for line in lines for word in re.findall("[abé]+", line)
    )
