"""The store over streams that ran beside each other."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.telemetry.store import Store
from mlxdeck.telemetry.tail import Tail
from mlxdeck.tui.listing import Listing
from tests.streams import START_TS, Made, write


def test_streams_that_ran_beside_each_other_are_one_in_time(tmp_path: Path) -> None:
    """Requests, calls and ticks are in the order of time, whichever file is read first."""
    paths = [
        write(tmp_path / f"{pid}.jsonl", [Made(n, tool="Read") for n in range(pid, 90, 20)], pid)
        for pid in (17, 7)
    ]
    store, tail = Store(), Tail(paths)
    while store.feed(tail.poll(2000)):
        pass
    tail.close()
    ticks, calls = ([row.ts for row in rows] for rows in (store.ticks, store.tool_calls))
    assert ticks == sorted(ticks) and len(ticks) == 2
    assert calls == sorted(calls) and len(calls) == 9
    listing = Listing(store)
    starts = store.column("start_ts")[listing.rows()]
    assert starts.tolist() == sorted(starts.tolist()) and len(starts) == 9
    assert len(listing.rows(START_TS + 40)) == 4
    assert len(listing.calls(START_TS + 40)) == 4
    listing.set("id:req_7")
    assert len(listing.rows()) == 5 and len(listing.calls()) == 5
