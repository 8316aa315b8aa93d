"""The summary of a session."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.telemetry.analyze.session_summary import read, session_summary
from tests.streams import NAME, START_TS, Made, write


def test_a_session_is_summed_up_from_its_beginning_on(tmp_path: Path) -> None:
    """Requests before it don't count; rates and percentiles are those of the session."""
    write(
        tmp_path / NAME,
        [
            Made(10, 9.0),
            Made(60, 1.0, input_tokens=1000, cached_tokens=1000, cache="exact"),
            Made(70, 3.0, input_tokens=1000, cached_tokens=500, cache="prefix", tool="Read"),
            Made(80, 2.0, input_tokens=0, outcome="error"),
        ],
    )
    store = read([tmp_path])
    assert session_summary(store, START_TS + 50, START_TS + 100) == [
        "3 requests, 1 errors, 1 tool calls",
        "2,000 tokens read, 20 written",
        "latency P50 1.00 s, P95 3.00 s, first token P50 0.50 s",
        "from cache 75% of the tokens: 50% as whole answers, 25% as prefixes",
    ]
    assert session_summary(store, START_TS + 90, START_TS + 100) == ["no requests in this session"]
