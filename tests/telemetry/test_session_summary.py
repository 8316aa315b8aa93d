"""The summary of a session."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.telemetry.analyze.session_summary import read, session_figures, session_summary
from tests.streams import NAME, START_TS, Made, write


def test_a_session_is_summed_up_from_its_beginning_on(tmp_path: Path) -> None:
    """Requests before it don't count; rates and percentiles are those of the session."""
    write(
        tmp_path / NAME,
        [
            Made(10, 9.0),
            Made(60, 1.0, input_tokens=1000, cached_tokens=1000, cache="exact", tier="disk"),
            Made(70, 3.0, input_tokens=1000, cached_tokens=500, cache="prefix", tool="Read"),
            Made(80, 2.0, input_tokens=0, outcome="error"),
        ],
    )
    store = read([tmp_path])
    figures = session_figures(store, START_TS + 50, START_TS + 100)
    assert session_summary(figures, [tmp_path / NAME]) == [
        "50.0 s: 3 requests, 2,000 tokens read, 20 written",
        "latency P50 1.0 s, P95 3.0 s, P99 3.0 s",
        "first token P50 500 ms, P95 1.5 s, P99 1.5 s",
        # 500 tokens were read in 1.5 s and 10 were written in 1.5 s; 1,500 and 10 were not.
        "from cache 75% of the tokens read, about 6.0 s saved",
        "  disk 1 of 3 requests, 1,000 tokens",
        "  memory 1 of 3 requests, 500 tokens",
        "tool calls: Read 1",
        "errors: api_error 1",
        f"recorded in {tmp_path / NAME}",
    ]
    none = session_figures(store, START_TS + 90, START_TS + 100)
    assert session_summary(none) == ["no requests in this session"]
