"""The figures at the top: where they stand, and what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.tui.text import format as fmt
from mlxdeck.tui.widgets.kpi_layout import laid_out
from mlxdeck.tui.widgets.large_digits import large
from mlxdeck.tui.widgets.sparkline import sparkline
from mlxdeck.tui.widgets.tiles import GROUPS, KpiValue, Mood, TileGroup

MOODS: tuple[Mood, ...] = ("", "good", "warn", "bad")
TEXTS = st.one_of(
    st.floats(0, 1e6).map(fmt.duration), st.floats(0, 1e9).map(fmt.count),
    st.floats(0, 1).map(fmt.percent), st.floats(0, 1e12).map(fmt.size), st.just(fmt.UNKNOWN),
)  # fmt: skip
VALUES = st.builds(
    KpiValue,
    TEXTS,
    st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), max_size=80).map(tuple),
    st.sampled_from(MOODS),
    st.none(),
    st.sampled_from(("", "!", "~")),
    st.sampled_from(("in 15m", "of 137.4GB")),
)


@given(st.sampled_from(GROUPS), st.lists(VALUES, min_size=5, max_size=5),
       st.integers(19, 80), st.integers(1, 6))  # fmt: skip
def test_nothing_is_cut(group: TileGroup, values: list[KpiValue], width: int, height: int) -> None:
    """At any size each figure is there with its mark, or not at all; the large one always is."""
    told = dict(zip((tile.name for tile in group.tiles), values, strict=True))
    lines = laid_out(group, told, width, height)
    texts = ["".join(part.text for part in line) for line in lines]
    assert len(lines) <= height
    assert all(len(text) <= width for text in texts)
    for tile in group.others:
        shown = [part.text for line in lines for part in line if part.tile is tile]
        assert not shown or (shown[0].strip() in tile.labels and shown[1] == told[tile.name].text)
    first = told[group.large.name]
    drawn = [large(first.value), large(first.value.rstrip("KMGB"))]
    assert any(first.text in text for text in texts) or any(
        all(digit in text for digit, text in zip(digits, texts[1:], strict=False))
        for digits in drawn
    )


def test_what_is_there_at_each_size() -> None:
    """All figures of a group from 36 cells and two lines on; digits are large from 24 cells on."""
    for group in GROUPS:
        told = {tile.name: KpiValue("123") for tile in group.tiles}
        for width in range(24, 64):
            lines = laid_out(group, told, width, 5)
            assert {part.tile for line in lines for part in line if part.tile} == {*group.tiles}
            assert large("123")[0] in lines[1][0].text
        for width in range(36, 64):
            lines = laid_out(group, told, width, 2)
            assert {part.tile for line in lines for part in line if part.tile} == {*group.tiles}


def test_a_long_figure_takes_the_room_of_a_short_one() -> None:
    """At 80 columns each group has 37 cells: all figures of health are there, of failures too."""
    health = GROUPS[-1]
    texts = ("18.9GB", "418", "3 !", "14/415 !", "0")
    told = {tile.name: KpiValue(text) for tile, text in zip(health.tiles, texts, strict=True)}
    lines = laid_out(health, told, 37, 2)
    assert {part.tile for line in lines for part in line if part.tile} == {*health.tiles}


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=30), st.integers(1, 5))
def test_bars_are_as_high_as_their_values(values: list[float], height: int) -> None:
    """The highest fills its column, and an equal one is as high as it."""
    lines = sparkline([*values, max(values)], len(values) + 1, height=height)
    columns = ["".join(line[x] for line in lines) for x in range(len(values) + 1)]
    if max(values) > 0:
        assert columns[-1] == "█" * height
    assert columns[values.index(max(values))] == columns[-1]
