"""Columns that grow and become wider, against plain lists; what a request takes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.columns.column_set import ColumnSet
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store
from mlxdeck.telemetry.store.table import COLUMNS
from tests.streams import Made, Stream, read_streams, write

KINDS = {
    "text": (np.uint8, 0),
    "place": (np.uint32, 0),
    "seconds": (np.float32, np.nan),
    "tokens": (np.int32, -1),
}
values = {
    "text": st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**31 - 1]),
    "place": st.sampled_from([0, 7, 2**32 - 1, 2**32, 2**40]),
    "seconds": st.sampled_from([0.5, 2.0]),
    "tokens": st.integers(0, 9),
}
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 3000), st.just(0)),
        *(st.tuples(st.just(name), st.integers(0, 10_000), each) for name, each in values.items()),
    ),
    max_size=12,
)


@given(steps)
def test_columns_are_as_lists_would_be(steps: list[tuple[str, int, float]]) -> None:
    """Whatever is told in whatever order, each row has its last value, or the fill."""
    columns, lists = ColumnSet(KINDS, ["tokens"]), {name: list[float]() for name in KINDS}
    for name, number, value in [("grow", 1, 0), *steps]:
        if name == "grow":
            columns.grow(columns.n + number)
            for each, (_, fill) in KINDS.items():
                lists[each] += [fill] * number
        else:
            columns.put(name, [number % columns.n], [value])
            lists[name][number % columns.n] = value
    for name, expected in lists.items():
        np.testing.assert_array_equal(columns[name], expected)


def test_a_column_is_as_wide_as_its_highest_number() -> None:
    """Numbers of texts take one byte, and more only once there are so many texts."""
    columns, widths = ColumnSet(KINDS), list[int]()
    columns.grow(2)
    for number in (255, 256, 65_535, 65_536):
        columns.put("text", 1, number)
        widths.append(columns["text"].itemsize)
    assert widths == [1, 2, 2, 4]
    assert columns["text"].tolist() == [0, 65_536]
    assert columns["seconds"].strides == (0,), "what is never told takes nothing"


def test_a_request_takes_few_bytes(tmp_path: Path) -> None:
    """All columns of a request together, those that no line tells left out."""
    made = [Made(float(n), cache="prefix", tool="Read") for n in range(300)]
    store = read_streams([write(tmp_path / "mlxdeck-20260921-131320-7.jsonl", made)])
    told = [column for column in map(store.column, COLUMNS) if any(column.strides) and column.any()]
    assert sum(column.itemsize for column in told) <= 80
    calls = store.calls
    columns = (calls.rows, calls.names, calls.parsers, calls.faults, calls.argument_bytes)
    assert sum(column.itemsize for column in columns) <= 12
    assert not any(calls.result_ts.strides), "no result has come"


def test_many_texts_are_told_apart() -> None:
    """Sessions beyond the 256th keep their names, and so do those before them."""
    store, stream = Store(), Stream()
    for number in range(300):
        line = stream.line(t.RequestStart(model="m"), number, f"r{number}", f"s{number}")
        if found := batch(Path("f"), line):
            store.feed([found])
    assert [store.text("session", row) for row in range(300)] == [f"s{n}" for n in range(300)]
