"""The list of requests: moving in it, and what stays where when more come."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.events import RequestProgress
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.screens.dashboard import DashboardScreen
from mlxdeck.tui.widgets.request_table import COLUMNS, RequestTable, fitting
from mlxdeck.tui.widgets.time_bars import bar, scale_of
from tests.streams import Made, Stream, read_streams
from tests.transcripts import Transcript, text
from tests.tui.running import LAST, REQUESTS, running

MANY = [Made(float(n % 90 + 1), 0.5) for n in range(200)]


async def test_keys_move_the_cursor(tmp_path: Path) -> None:
    """By lines, by pages and to both ends, never beyond them."""
    async with running(tmp_path, MANY) as run:
        places = []
        for key in ("up", "down", "j", "k", "pagedown", "end", "down", "pageup", "home", "G"):
            await run.press(key)
            places.append(run.table.cursor)
        page = places[4] - places[3]
        assert places == [0, 1, 2, 1, 1 + page, 199, 199, 199 - page, 0, 199]
        assert page > 5


async def test_the_cursor_is_always_visible(tmp_path: Path) -> None:
    """Scrolling follows it at both edges, and the header hides no line."""
    async with running(tmp_path, MANY) as run:
        height = run.table.scrollable_content_region.height - 1
        for key in ("end", "pageup", "pageup", "up", "home", "pagedown", "down"):
            await run.press(key)
            assert 0 <= run.table.cursor - run.table.scroll_offset.y < height


async def test_the_cursor_stays_on_its_request(tmp_path: Path) -> None:
    """When newer ones arrive above it, and `g` brings it back to the newest."""
    async with running(tmp_path) as run:
        await run.press("down", "down")
        before = run.table.item
        await run.add_request(Made(95))
        await run.add_request(Made(96))
        assert run.table.item == before
        assert "4 above" in run.text
        await run.press("g")
        assert run.table.item == LAST + 2


async def test_the_view_stays_while_scrolled(tmp_path: Path) -> None:
    """The same lines stay in the same place."""
    async with running(tmp_path, MANY) as run:
        await run.press("pagedown", "pagedown", "pagedown")
        top = run.table.n_items - run.table.scroll_offset.y
        await run.add_request(Made(95))
        assert run.table.n_items - run.table.scroll_offset.y == top


async def test_a_click_chooses_and_a_second_one_opens(tmp_path: Path) -> None:
    """The header and the empty part below are no requests."""
    async with running(tmp_path) as run:
        await run.pilot.click("#requests", offset=(10, 1))
        await run.pilot.click("#requests", offset=(10, 12))
        assert run.table.cursor == 0
        await run.pilot.click("#requests", offset=(10, 4))
        assert run.table.cursor == 2
        assert isinstance(run.app.screen, DashboardScreen)
        await run.pilot.click("#requests", offset=(10, 4))
        await run.settle()
        assert run.shown_row == LAST - 2


MOVES = (
    (
        RequestProgress(state="wait", position=3, waits_for="memory", prompt_tokens=400),
        ("queued 3rd", "for memory", "400 tokens"),
    ),
    (
        RequestProgress(
            state="prefill", state_s=2, prompt_tokens=400, cached_tokens=100, read_tokens=300
        ),
        ("400", "25%", "reading 75%", "━━", "300 of 400", "100/s", "1.00s left"),
    ),
    (
        RequestProgress(
            state="decode", state_s=2, prompt_tokens=400, read_tokens=400, output_tokens=36,
            held=True,
        ),
        ("writing, held", "36 tok", "18.0/s"),
    ),
    (RequestProgress(state="decode", state_s=2, output_chars=40), ("40 chars", "20.0/s")),
)  # fmt: skip
"""Reports, each with what its line then shows."""


async def test_a_request_is_there_while_it_runs(tmp_path: Path) -> None:
    """Marked as open, with its phase and its time so far, and filled in by its last event."""
    async with running(tmp_path, REQUESTS[:1], size=(180, 30)) as run:
        start, *_, end = run._stream.request(Made(95, cached_tokens=50), 5)
        await run.add(start)
        assert "◌" in run.text and "open" in run.text and "6.00s" in run.text
        await run.press("m")
        for attrs, words in MOVES:
            await run.add(run._stream.line(attrs, 95, "req_7_0005"))
            for each in words:
                assert each in run.text, (each, run.text)
        await run.add(end)
        assert "◌" not in run.text and "50%" in run.text and "25%" not in run.text


async def test_outcome_and_cache_are_told_by_marks_and_words(tmp_path: Path) -> None:
    """Not by colours alone."""
    async with running(tmp_path, size=(180, 30)) as run:
        for words in ("✓", "✗", "● exact", "◐ prefix", "○ miss", "500 api_error", "cancelled"):
            assert words in run.text


def test_columns_go_by_importance() -> None:
    """Outcome, time and duration are the last to go; wide tables add bars."""
    titles = [column.title for column in fitting(30)[0]]
    assert "total" in titles and "session" not in titles
    for width in range(30, 300):
        columns, bar = fitting(width)
        assert sum(column.width + 1 for column in columns) + bar <= width
    assert len(fitting(120)[0]) == len(COLUMNS)
    # Half of a terminal of 120 columns shows them, one of 80 has no room.
    assert all(fitting(width)[1] for width in range(69, 300)) and not fitting(46)[1]


def test_every_line_is_as_wide_as_the_table() -> None:
    """Also without a single figure known."""
    store, stream = Store(), Stream()
    only = batch(Path("f"), stream.request(Made(1.0), 0)[0])
    store.feed([only] if only else [])
    table = RequestTable(store)
    for width in (40, 70, 90, 140, 200):
        _, bar = fitting(width)
        assert sum(len(text) for text, _ in table.cells(0, width)) in {width, width - bar}
        assert sum(len(text) for text, _ in table.header(width)) == width


def test_what_was_lost_is_listed_as_far_as_it_was() -> None:
    """With the tokens that it reported last, what it did then, and how long it had run."""
    store, stream = Store(), Stream()
    told = t.RequestProgress(
        *(), state="prefill", prompt_tokens=8000, cached_tokens=2000, read_tokens=4000
    )
    lines = [stream.line(t.RequestStart(model="m"), 10, "req_1"), stream.line(told, 12, "req_1")]
    found = batch(Path("f"), b"".join([*lines, stream.line(t.ServerStop(), 15)]))
    store.feed([found] if found else [])
    texts = "".join(text for text, _ in RequestTable(store).cells(0, 140))
    assert "8.0k" in texts and "25%" in texts and "5.00s" in texts and "lost reading 50%" in texts


def test_an_unknown_status_is_not_a_number(tmp_path: Path) -> None:
    """A transcript may tell an error without one."""
    made = Transcript()
    said = {"role": "assistant", "model": "<synthetic>", "content": [text("It broke")]}
    made.add("assistant", 5, message=said, isApiErrorMessage=True, error="max_output_tokens")
    table = RequestTable(read_streams([made.write(tmp_path / "a.jsonl")]))
    (end,) = [cell for cell, _ in table.cells(0, 120) if "max_output" in cell]
    assert end.strip() == "max_output_tokens"


@given(
    st.lists(st.floats(0.002, 3000), min_size=2, max_size=8),
    st.integers(10, 120),
)
def test_bars_are_on_one_scale(durations_s: list[float], width: int) -> None:
    """A longer request never has the shorter bar, and none is longer than the column."""
    store, stream = Store(), Stream()
    for number, duration_s in enumerate(durations_s):
        made = Made(4000.0 + number, duration_s)
        lines = batch(Path("f"), b"".join(stream.request(made, number)))
        store.feed([lines] if lines else [])
    scale_s = scale_of(durations_s)
    lengths = [
        sum(len(text) for text, _ in bar(store, row, width, scale_s))
        for row in range(len(durations_s))
    ]
    assert all(1 <= length <= width for length in lengths)
    ordered = sorted(zip(store.column("duration_s").tolist(), lengths, strict=True))
    assert [length for _, length in ordered] == sorted(lengths)
