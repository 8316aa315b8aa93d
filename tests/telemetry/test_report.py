"""The report: its figures, and its lines."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.analyze.periods import compared, everything, period
from mlxdeck.telemetry.analyze.prices import prices_of
from mlxdeck.telemetry.analyze.report import Period, report, rows_of
from mlxdeck.telemetry.analyze.report_series import series
from mlxdeck.telemetry.analyze.report_text import report_lines
from mlxdeck.telemetry.analyze.session_summary import session_figures, session_summary
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.export.html_report import html_page
from mlxdeck.telemetry.read.places import NoStream
from mlxdeck.telemetry.schema import events as t
from tests.streams import NAME, START_TS, Made, Stream, read_streams, write

DATA = Path(__file__).parents[1] / "data"


def test_a_folder_is_all_of_its_streams_and_a_period_cuts(tmp_path: Path) -> None:
    """Two processes in two files; requests count that ended in the period."""
    write(tmp_path / NAME, [Made(10), Made(20, outcome="error")])
    write(tmp_path / NAME.replace("-7.", "-8."), [Made(30), Made(40)], pid=8)
    (tmp_path / "notes.jsonl").write_text("no stream")
    store = read_streams([tmp_path])
    made = report(store, everything(store))
    assert (made.n_requests, made.n_ok, made.errors) == (4, 3, {"api_error": 1})
    late = report(store, period(store, "15s"))
    assert (late.period.until_ts, late.n_requests) == (START_TS + 40, 2)
    one = report(store, everything(store), session="session1")
    assert (one.n_requests, [each.name for each in one.sessions]) == (2, ["session1"])


def test_clocks_that_were_wrong_leave_the_others_figures(tmp_path: Path) -> None:
    """A line of 1970 doesn't empty the period; less than no time is unknown."""
    stream = Stream()
    back = replace(Made(20), duration_s=-5.0)
    made = [*stream.request(Made(10), 0), *stream.request(back, 1)]
    early = stream.line(t.Tick(), -START_TS)
    (tmp_path / NAME).write_bytes(b"".join([stream.header(), *made, early]))
    store = read_streams([tmp_path])
    found = report(store, period(store, ""))
    assert (found.period.from_ts, found.n_requests) == (0, 2)
    assert found.busy_s == 1.0
    assert np.isnan(store.column("duration_s")[:2]).tolist() == [False, True]


def test_a_page_is_for_its_owner_alone(tmp_path: Path) -> None:
    """As every file that holds what was recorded."""
    write(tmp_path / NAME, [Made(10)])
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / NAME), "--html", str(page)]) == 0
    assert page.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_stream_is_refused_by_its_name(tmp_path: Path) -> None:
    """Text, a compressed file, a missing one; an empty one is a stream without requests."""
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(NoStream, match=r"a\.txt holds no event of mlxdeck"):
        read_streams([tmp_path / "a.txt"])
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08\x00rest\n")
    with pytest.raises(NoStream, match="the middle of its gzip data"):
        read_streams([tmp_path / "a.gz"])
    with pytest.raises(NoStream, match="no such file"):
        read_streams([tmp_path / "none"])
    (tmp_path / "empty.jsonl").touch()
    store = read_streams([tmp_path / "empty.jsonl"])
    assert report_lines(report(store, everything(store))) == ["no requests in this period"]


def test_prices_are_listed_or_the_users_own(tmp_path: Path) -> None:
    """Dollars a million tokens; what is known costs the price of cached tokens."""
    write(tmp_path / NAME, [Made(10, input_tokens=1000, cached_tokens=600, output_tokens=10)])
    store = read_streams([tmp_path])
    made = report(store, everything(store), prices=prices_of("10,1,100"))
    assert made.money and made.money.cost == pytest.approx((4_000 + 600 + 1_000) / 1e6)
    assert made.money.uncached == pytest.approx(11_000 / 1e6) and made.money.date == ""
    for name in (
        *("claude-opus-4.5", "claude-opus-4-5", "Claude Opus 4.5", "claude_opus_4_5"),
        *("anthropic/claude-opus-4.5", "claude-opus-4-5-20251101", "claude-opus-4-5@20251101"),
        *("us.anthropic.claude-opus-4-5-20251101-v1:0", "claude-4.5-opus", "opus-4.5"),
    ):
        assert prices_of(name).output == 25.0, name
    assert prices_of("gpt-5-2025-08-07") == prices_of("openai/GPT-5") != prices_of("gpt-5-mini")
    with pytest.raises(ValueError, match="claude-opus-4.5, claude-sonnet-4.5"):
        prices_of("claude-opus-4.1")
    for wrong in ("", "x", "1", "1,2,3,4", "nan,1", "-1,2"):
        with pytest.raises(ValueError, match="expected"):
            prices_of(wrong)


def test_periods_are_lengths_or_dates() -> None:
    """The period before, or one between two dates."""
    own = Period(1_000_000.0, 1_100_000.0)
    assert compared("12h", own) == Period(1_000_000.0 - 43_200, 1_000_000.0)
    found = compared("2026-11-01..2026-11-02", own)
    assert found.until_ts - found.from_ts == 86_400
    backwards = ("0d", "2026-11-02..2026-11-01", "2026-11-01..2026-11-01")
    for wrong in ("", "week", "2026-11-01", "2026-99-01..2026-11-02", *backwards):
        with pytest.raises(ValueError, match="expected"):
            compared(wrong, own)


@pytest.mark.parametrize("length", ["999999d", "999999999d", "99999999999999999999w"])
def test_a_length_beyond_all_dates_means_everything(
    length: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the own period and of the one before it."""
    path = str(write(tmp_path / NAME, [Made(10), Made(20)]))
    for words in (["--since", length], ["--since", "5s", "--against", length]):
        assert main(["report", path, *words]) == 0
        assert "1970-01-01" in capsys.readouterr().out
        assert main(["report", path, *words, "--html", str(tmp_path / "a.html")]) == 0
        capsys.readouterr()
    assert main(["stats", path, "--since", length, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_requests"] == 2


def test_requests_of_a_killed_server_are_told_though_none_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text, with what helps; as a page, as JSON; and beside requests that ended."""
    path = write(tmp_path / NAME, [Made(10), Made(20)])
    kept = [line for line in path.read_text().splitlines(True) if '"request.end"' not in line]
    path.write_text("".join(kept))
    for command in ("report", "stats"):
        assert main([command, str(path)]) == 0
        told = capsys.readouterr().out
        assert told.startswith("no request ended in this period; 2 lost with their server\n")
        assert ("2 requests lost with 1 server" in told) == (command == "report")
    page = tmp_path / "a.html"
    assert main(["report", str(path), "--html", str(page)]) == 0
    told = "No request ended in this period; 2 lost with their server."
    assert told in page.read_text() and "2 requests lost with 1 server" in page.read_text()
    capsys.readouterr()
    write(tmp_path / "b.jsonl", [Made(30)], pid=8)
    places = [str(path), str(tmp_path / "b.jsonl")]
    assert main(["report", *places]) == 0
    assert "1 request; 2 more lost with their server\n" in capsys.readouterr().out
    assert main(["report", *places, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_requests"], found["n_lost"], found["n_open"]) == (1, 2, 0)


def test_requests_that_run_are_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As long as their server is heard."""
    stream, now_s = Stream(), time.time() - START_TS
    lines = [stream.header(), stream.line(t.RequestStart(), now_s - 100, "req_1")]
    path = tmp_path / NAME
    path.write_bytes(b"".join([*lines, stream.tick(now_s - 5)]))
    assert main(["stats", str(path)]) == 0
    assert capsys.readouterr().out == "no request ended in this period; 1 still running\n"


def test_only_answers_save(tmp_path: Path) -> None:
    """What failed or was left read from the cache in vain, and costs nothing elsewhere."""
    known = Made(10, input_tokens=1000, cached_tokens=600, output_tokens=10)
    ends = [replace(known, end_s=20 + n, outcome=each)
            for n, each in enumerate(("error", "cancelled"))]  # fmt: skip
    whole = replace(known, end_s=30, outcome="error", cache="exact")
    store = read_streams([write(tmp_path / NAME, [known, *ends, whole])])
    made = report(store, everything(store), prices=prices_of("10,1,100"))
    assert (made.n_requests, made.saved.tokens, made.saved.answer_tokens) == (4, 600, 0)
    assert made.money and made.money.cost == pytest.approx((4_000 + 600 + 1_000) / 1e6)


def test_a_share_is_of_the_requests_that_it_counts(tmp_path: Path) -> None:
    """Savings of answers, of the prompts of answers; hits, of prompts whose cached part is told."""
    known = Made(10, input_tokens=1000, cached_tokens=600)
    stream = Stream()
    failed = replace(known, end_s=20, outcome="error")
    lines = [*stream.request(known, 0), *stream.request(failed, 2)]
    untold = t.RequestEnd(model="made-up", input_tokens=5000, output_tokens=5, duration_s=1.0)
    lines += [stream.line(each, 30, "req_x", "session0") for each in (t.RequestStart(), untold)]
    path = tmp_path / NAME
    path.write_bytes(b"".join([stream.header(), *lines]))
    store = read_streams([path])
    made = report(store, everything(store))
    assert (made.saved.tokens, made.saved.of_tokens, made.input_tokens) == (600, 1000, 7000)
    shown = "\n".join(report_lines(made))
    assert "saved by caches: 600 tokens (60% of the prompts that were answered)" in shown
    group = next(line for line in shown.splitlines() if line.startswith("  made-up "))
    assert group.split()[1:5] == ["3", "1", "7,000", "60%"]
    steps = series(store, rows_of(store, made.period), made.period)
    assert (sum(steps.known_tokens), sum(steps.computed_tokens)) == (1200, 800)
    page = html_page(made, steps)
    assert "<dd>60%<small>600 of 1,000 tokens of answered prompts</small>" in page
    assert page.count('data-name="cached">60%<') == 3
    summary = session_figures(store, START_TS, START_TS + 60)
    assert "from cache 60% of the tokens read" in "\n".join(session_summary(summary))


def test_the_requests_of_a_summary_add_up(tmp_path: Path) -> None:
    """How they ended; what was lost or runs still is not among them."""
    ends = ["ok", "ok", "ok", "error", "cancelled", "cancelled"]
    made = [Made(10 + n, outcome=each) for n, each in enumerate(ends)]
    store = read_streams([write(tmp_path / NAME, made)])
    found = report(store, everything(store))
    assert report_lines(found)[1] == "6 requests: 3 answered, 1 failed, 2 cancelled"
    more = replace(found, n_lost=5, n_open=1)
    told = "6 requests: 3 answered, 1 failed, 2 cancelled; 5 more lost with their server;"
    assert report_lines(more)[1] == f"{told} 1 more still running"
    steps = series(store, rows_of(store, more.period), more.period)
    parts = (steps.answered, steps.cancelled, steps.errors, steps.requests)
    assert [sum(part) for part in parts] == [3, 2, 1, 6]
    page = html_page(more, steps)
    assert page.count("answered 0, cancelled 1, failed 0") == 2
    assert "<dd>6<small>3 answered, 1 failed, 2 cancelled; 5 more lost with" in page
    good = read_streams([write(tmp_path / "good.jsonl", [Made(10)])])
    assert report_lines(report(good, everything(good)))[1] == "1 request"


def a_session() -> str:
    """The one of most requests in the recorded day."""
    told = map(json.loads, (DATA / "day.jsonl").read_bytes().splitlines())
    names = Counter(each["session_id"] for each in told if each["event"] == "request.end")
    return str(names.most_common(1)[0][0])


def test_the_lines_of_a_shared_report_name_nobody() -> None:
    """Numbers in place of sessions, agents, tools and models."""
    store = read_streams([DATA / "day.jsonl"])
    plain = "\n".join(report_lines(report(store, everything(store))))
    made = report(store, everything(store), names=ShownNames(anonymous=True))
    shared = "\n".join(report_lines(made))
    for name in ("scripted-30b", "Read", "req_", a_session()):
        assert name in plain and name not in shared
    assert "model 1" in shared and "tool 1" in shared and "session 1" in shared


def test_commands_refuse_what_is_no_stream_and_say_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clear line each, and status 2; lines that can't be read are counted beside the figures."""
    (tmp_path / "a.txt").write_text("hello\n")
    (tmp_path / "empty.jsonl").touch()
    for command in ("report", "stats", "why"):
        assert main([command, str(tmp_path / "a.txt")]) == 2
        assert "holds no event of mlxdeck" in capsys.readouterr().err
    for command in ("report", "why"):
        assert main([command, str(tmp_path / "empty.jsonl")]) == 2
        assert "no requests are recorded" in capsys.readouterr().err
    assert main(["stats", str(tmp_path / "empty.jsonl")]) == 0
    assert capsys.readouterr().out == "no requests in this period\n"
    assert main(["report"]) == 2
    assert "nothing is recorded" in capsys.readouterr().err
    path = write(tmp_path / NAME, [Made(10)])
    path.write_bytes(path.read_bytes() + b"{broken\n")
    assert main(["report", str(path)]) == 0
    told = capsys.readouterr()
    assert "1 request" in told.out and "1 line not readable" in told.err
    for words in (["--since", "soon"], ["--against", "soon"]):
        assert main(["report", str(path), *words]) == 2
        assert "expected" in capsys.readouterr().err
    assert main(["report", str(path), "--html", str(tmp_path / "none" / "a.html")]) == 2
    assert "can't be written" in capsys.readouterr().err


def test_a_page_is_one_file_with_its_own_style(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No address, no script; and with --share, no name of anything."""
    for share in ([], ["--share"]):
        page = tmp_path / "a.html"
        assert main(["report", str(DATA / "day.jsonl"), "--html", str(page), *share]) == 0
        text = page.read_text()
        assert "<script" not in text and "http:" not in text and "https:" not in text
        assert "<svg" in text and "prefers-color-scheme" in text
        assert ("scripted-30b" in text) == (not share) == (a_session() in text)
    capsys.readouterr()


def test_commands_count_what_a_filter_matches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Report, figures and one request alike; a mistake and a value that none has are told."""
    path = str(write(tmp_path / NAME, [Made(10, tool="Read"), Made(20), Made(30, tool="Bash")]))
    for command in ("report", "stats"):
        assert main([command, path, "--json", "--filter", "tool:Read"]) == 0
        assert json.loads(capsys.readouterr().out)["n_requests"] == 1
    assert main(["inspect", path, "--json", "--filter", "tool:*"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "req_7_0002"
    assert main(["stats", path, "--filter", "tool:Raed"]) == 0
    assert "tool: no Raed; Read?" in capsys.readouterr().err
    assert main(["stats", path, "--filter", "status:errr"]) == 2
    assert "status: no errr; error?" in capsys.readouterr().err
