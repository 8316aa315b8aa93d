"""Requests without an end, and bad lines that may be their ends."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.read.tail import BadLine
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store
from mlxdeck.tui.present.lost_requests import lost_requests
from tests.streams import START_TS, Stream

ONE, TWO = Path("one.jsonl"), Path("two.jsonl")


def counted(store: Store, *bad: BadLine) -> tuple[int, int]:
    """How many were lost, and how many may have an end."""
    begun = store.by_start.between(-math.inf, math.inf)
    lost, unread = lost_requests(store, begun, (0, START_TS + 1_000), bad)
    return len(lost), len(unread)


def test_of_several_files_a_bad_line_counts_behind_the_last_line_in_its_own() -> None:
    """As of a request during which a file was full."""
    stream, store = Stream(), Store()
    names = ("req_one", "req_both")
    one = b"".join(stream.line(t.RequestStart(), at, name) for at, name in enumerate(names))
    two = stream.line(t.RequestProgress(state="decode"), 3, "req_both")
    told = (batch(ONE, one), batch(TWO, two))
    store.feed(filter(None, told))
    store.lose_silent(START_TS + 900)
    assert counted(store) == counted(store, BadLine(Path("other.jsonl"), 9_999, "torn")) == (2, 0)
    # `req_both` begins in the middle of the first file, behind the only line of the other one.
    assert counted(store, BadLine(ONE, 1, "torn")) == (1, 1)
    assert counted(store, BadLine(ONE, len(one), "torn")) == (0, 2)
    assert counted(store, BadLine(TWO, len(two), "torn")) == (1, 1)
    assert counted(store, BadLine(TWO, 0, "torn")) == (2, 0)


def test_requests_of_one_file_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each redraw asks of thousands."""
    stream, store = Stream(), Store()
    lines = [stream.line(t.RequestStart(), n / 100, f"req_{n}") for n in range(100)]
    store.feed(filter(None, [batch(ONE, b"".join(lines))]))
    store.lose_silent(START_TS + 900)
    monkeypatch.delattr(Store, "spans")
    assert counted(store, BadLine(ONE, sum(map(len, lines[:40])), "torn")) == (60, 40)
