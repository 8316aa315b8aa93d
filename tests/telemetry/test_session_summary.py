"""The summary of a session."""

from __future__ import annotations

import os
from pathlib import Path

from mlxdeck.telemetry.analyze.session_summary import (
    read,
    session_figures,
    session_summary,
    summary_of,
)
from mlxdeck.telemetry.schema import events as t
from tests.streams import NAME, START_TS, Made, Stream, write


def test_a_session_is_summed_up_from_its_beginning_on(tmp_path: Path) -> None:
    """Requests before it only tell how fast the server is."""
    write(
        tmp_path / NAME,
        [
            Made(10, 9.0, input_tokens=3000),
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
        # 500 at their request's 3 ms, 1,000 at the median of 1.5 and 3 ms, 10 written at 300 ms.
        "from cache 75% of the tokens read, about 6.8 s saved",
        "  disk 1 of 3 requests, 1,000 tokens",
        "  memory 1 of 3 requests, 500 tokens",
        "tool calls: Read 1",
        "errors: api_error 1",
        f"recorded in {tmp_path / NAME}",
    ]
    none = session_figures(store, START_TS + 90, START_TS + 100)
    assert session_summary(none) == ["no requests recorded in this session"]


def recorded(path: Path, pid: int, began_s: float, *ends_s: float, port: int = 8081) -> Stream:
    """A process of a server, and when its requests ended."""
    stream = Stream(pid)
    header = t.StreamStart(model="m", server_address="127.0.0.1", server_port=port)
    lines = [stream.line(header, began_s)]
    for number, end_s in enumerate(ends_s):
        lines += stream.request(Made(end_s), number)
    path.write_bytes(b"".join(lines))
    return stream


def summed(folder: Path, port: int = 8081) -> list[str]:
    """The summary of a minute."""
    return summary_of(folder, START_TS, START_TS + 60, port)


def test_a_server_that_was_started_again_is_summed_up_whole(tmp_path: Path) -> None:
    """The last process had no request; a server at another port has its own summary."""
    first, last = tmp_path / NAME, tmp_path / NAME.replace("-7.", "-8.")
    recorded(first, 7, 1, 10, 12)
    recorded(last, 8, 20)
    recorded(tmp_path / NAME.replace("-7.", "-9."), 9, 1, 30, port=9000)
    told = summed(tmp_path)
    assert told[0].startswith("1 min 0 s: 2 requests, 200 tokens read, 20 written")
    assert {f"recorded in {first}", f"recorded in {last}"} < set(told)
    assert summed(tmp_path, 9000)[0].startswith("1 min 0 s: 1 request,")


def test_a_file_of_before_is_not_read(
    tmp_path: Path,
) -> None:
    """Whatever times its lines have; without any file, nothing was asked."""
    assert summed(tmp_path / "none") == summed(tmp_path) == ["no requests recorded in this session"]
    recorded(tmp_path / NAME, 7, 1, 10)
    os.utime(tmp_path / NAME, (START_TS - 10, START_TS - 10))
    assert summed(tmp_path) == ["no requests recorded in this session"]


def test_a_file_whose_first_line_is_damaged_counts(tmp_path: Path) -> None:
    """Nothing says that another server wrote it."""
    recorded(tmp_path / NAME, 7, 1, 10)
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(b"x" + whole)
    assert ": 1 request," in summed(tmp_path)[0]


def test_a_request_without_an_end_is_told(tmp_path: Path) -> None:
    """As one that was lost with its server."""
    path = tmp_path / NAME
    stream = recorded(path, 7, 1)
    lines = stream.request(Made(11, 1.0), 0)
    path.write_bytes(path.read_bytes() + b"".join(lines[:-1]))
    told = ["no end is recorded of 1 request", f"recorded in {path}"]
    assert summed(tmp_path) == told
    later = tmp_path / NAME.replace("-7.", "-8.")
    recorded(later, 8, 20)
    assert summed(tmp_path) == [*told, f"recorded in {later}"]
    recorded(later, 8, 20, 30)
    assert summed(tmp_path)[0].startswith("1 min 0 s: 1 request,")
    assert told[0] in summed(tmp_path)
