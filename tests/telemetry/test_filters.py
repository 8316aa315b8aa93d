"""The filter language: what it matches, what it refuses, and what it suggests."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.query.completion import complete
from mlxdeck.telemetry.query.fields import FIELDS, anywhere
from mlxdeck.telemetry.query.filters import FilterError, expanded, parse
from mlxdeck.telemetry.query.growing_mask import GrowingMask
from mlxdeck.telemetry.query.hints import Hints
from mlxdeck.telemetry.query.lexer import quoted, unquoted
from mlxdeck.telemetry.query.patterns import TextPattern
from mlxdeck.telemetry.query.syntax import written
from mlxdeck.telemetry.schema.events import RequestEnd, RequestProgress, RequestStart, ToolCall
from mlxdeck.telemetry.store.argument_search import MAX_WORDS
from mlxdeck.telemetry.store.store import MAX_SAID, Store
from mlxdeck.telemetry.store.string_table import MAX_PATTERNS
from mlxdeck.tui.state.request_query import RequestQuery
from tests.streams import START_TS, Made, Stream, fed, write

REQUESTS = (
    Made(40, 8.0, 10_000, 0, 40, cache="miss"),
    Made(50, 2.0, 1000, 900, 20, cache="prefix", tool="Read"),
    Made(60, 0.25, 1000, 1000, 20, cache="exact"),
    Made(70, 1.0, 0, 0, 0, outcome="error", cache=""),
    Made(80, 3.0, 1200, 480, 60, cache="prefix", tool="Bash"),
    Made(90, 4.0, outcome="cancelled"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six requests of two sessions."""
    return read([write(Path(tmp_path_factory.mktemp("s")) / "x.jsonl", REQUESTS)])


def rows(store: Store, text: str) -> list[int]:
    """The rows that match."""
    return [int(row) for row in np.flatnonzero(parse(text).mask(store))]


MATCHES: dict[str, list[int]] = {
    "": [0, 1, 2, 3, 4, 5],
    "latency>2s": [0, 4, 5],
    "latency>=2": [0, 1, 4, 5],
    "latency<300ms": [2],
    "ttft>1s": [0, 4, 5],
    "ttft > 1s and tokens_in = 1,000": [],
    "tool: Read or cache = exact": [1, 2],
    "hit<50": [0, 4, 5],
    "hit>=90%": [1, 2],
    "hit<0.5": [0, 4, 5],
    "tokens_in>8k": [0],
    "tokens_in=1000": [1, 2],
    "tools>0": [1, 4],
    "code=500": [3, 5],
    "tool:read": [1],
    "TOOL=read": [1],
    "status:error": [3],
    "status:error or status:cancelled": [3, 5],
    "cache:exact": [2],
    "session:session1": [1, 3, 5],
    "session=session": [],
    "error:api": [3, 5],
    "model:LOCAL -tool:Read": [0, 2, 3, 4, 5],
    "not (latency>2s or tool:Read)": [2, 3],
    "latency>2s and hit>0.1": [4],
    "id:req_7_0002": [2],
    "Bash": [4],
    '"a.py"': [1, 4],
    'text:"a.py" tool:Bash': [4],
    "!status:ok": [3, 5],
    "! status:ok": [3, 5],
    "tool:Bash ! (status:error)": [4],
    "calls>0 progress:ended": [1, 4],
    # A request that was refused has no tokens, neither many nor few.
    "tokens_in<10k": [1, 2, 4, 5],
    "tokens_out>=0": [0, 1, 2, 4, 5],
    "not cached<1": [1, 2, 3, 4],
    # As the screens show them.
    "latency=2.00s": [1],
    "latency=2.01s": [],
    "hit=90%": [1],
    "tokens_in=1.2k": [4],
    "tokens_in=1k": [1, 2],
    "latency>2 s tool:Bash": [4],
    "(latency>2 s)": [0, 4, 5],
    "ttft>.9 s": [0, 1, 4, 5],
    "total>2s": [0, 4, 5],
    "in>8k or end:none": [0],
    "model:made-up": [0, 1, 2, 3, 4, 5],
    # As people write them.
    "cache!=exact": [0, 1, 3, 4, 5],
    "tool!:rea": [0, 2, 3, 4, 5],
    "status:error || tool:Bash && latency:>2s": [3, 4],
    "status:error|cancelled": [3, 5],
    "status:error,cancelled": [3, 5],
    "tool:Read | tool:Bash": [1, 4],
    "code=500|529": [3, 5],
    "tool:*": [1, 4],
    'tool=""': [0, 2, 3, 5],
    "tool:R*d": [1],
    "-tool:* and NOT(code==500)": [0, 2],
    "latency:2s..3s": [1, 4],
    "tokens_in=1..1.2k": [1, 2, 4],
    "tokens_in=..1k": [1, 2, 5],
    "ttft:*": [0, 1, 2, 3, 4, 5],
    "tool:'Read'": [1],
    "latency<0.005min": [2],
    "*Rea*": [1],
    '"*"': [],
    "dialect:anthropic messages=1": [0, 1, 2, 3, 4, 5],
    "first:yes": [0, 1],
    "first:no tool:Bash": [4],
    'agent=""': [0, 1, 2, 3, 4, 5],
    # The last one began at 86 s.
    "ago<=20s": [3, 4, 5],
    "ago>10.0s": [0, 1, 2, 3],
    "agent:main": [0, 1, 2, 3, 4, 5],
    "tool:unreadable": [],
    "req": [],
    "7_0002": [2],
}


@pytest.mark.parametrize("text", MATCHES)
def test_a_filter_matches(store: Store, text: str) -> None:
    """What its words say."""
    assert rows(store, text) == MATCHES[text]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_an_example_that_works(store: Store, name: str) -> None:
    """As the help shows it."""
    assert FIELDS[name].example.startswith(name) and FIELDS[name].about
    assert len(parse(FIELDS[name].example).mask(store)) == store.n


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latncy>2s", "did you mean latency"),
        ("nothing:x", "there are latency, ttft"),
        ("latency>soon", "latency needs a time like 2s"),
        ("hit>1k", "hit needs a share"),
        ("tokens_in>2s", "tokens_in needs a number"),
        ("tool>3", "tool takes : or ="),
        ("(a or b", "a ) is missing"),
        ("a)", "a ( is missing"),
        ("a or", "something to look for is missing"),
        ("not", "something to look for is missing"),
        ("a !", "something to look for is missing"),
        ("and a", "something to look for is missing"),
        ("(" * 5000, "at most 100 words"),
        ("a " * 5000, "at most 100 words"),
        ("status:errr", "status: no errr; error?"),
        ("-status:fine", "status: no fine; there are open, ok"),
        ("cache=exakt", "cache: no exakt; exact?"),
        ("tool=~Read", "=~ is no sign: tool: finds a part"),
        ("tool:", 'tool of what? tool:Read, or tool="" for none'),
        (">2s", "a field is missing, as in latency>2s"),
        ("a |", "something to look for is missing"),
        ("latency:5s..2s", "latency needs the smaller number first"),
        ("latency>1s..2s", "latency takes : or = with .."),
        ("time>25:00", "time needs a time like 14:30"),
        ("time>2026-13-01", "time needs a time like 14:30"),
        ("http://a", "a text with : goes in quotes"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, message: str) -> None:
    """In words, and within the text."""
    with pytest.raises(FilterError, match=re.escape(message)) as told:
        parse(text)
    assert 0 <= told.value.start <= told.value.end <= len(text) + 1


def test_completion_knows_fields_and_the_stores_values(store: Store) -> None:
    """With what they would replace."""
    assert [each.text for each in complete("lat", 3, store)] == ["latency>"]
    assert [each.text for each in complete("tool:", 5, store)] == ["tool:Bash", "tool:Read"]
    (found,) = complete("hit<1 tool:r", 12, store)
    assert (found.text, found.start, found.end) == ("tool:Read", 6, 12)
    assert [each.text for each in complete("(status:e", 9, store)] == ["status:error"]
    assert complete("latency>2", 9, store) == [] and complete("tool:Read", 9, store) == []
    assert complete("tool:Read|b", 11, store)[0].text == "tool:Read|Bash"
    assert [each.text for each in complete("-tool:b", 7, store)] == ["tool:Bash"]
    assert complete('text:"a la', 10, store) == [] and complete("model:qwen-co", 13, store) == []


TERMS: dict[str, Any] = {
    "latency>1.5s": lambda made, n: made.duration_s > 1.5,
    "tool:Read": lambda made, n: made.tool == "Read",
    "session:session0": lambda made, n: n % 2 == 0,
    "cached>=900": lambda made, n: made.cached_tokens >= 900,
    "status:ok": lambda made, n: made.outcome == "ok",
}
EXPRESSIONS = st.recursive(
    st.sampled_from(sorted(TERMS)).map(lambda name: (name, TERMS[name])),
    lambda inner: (
        st.tuples(inner, inner, st.sampled_from([" ", " and ", " or "])).map(
            lambda both: (
                f"({both[0][0]}{both[2]}{both[1][0]})",
                (lambda made, n: both[0][1](made, n) or both[1][1](made, n))
                if "or" in both[2]
                else (lambda made, n: both[0][1](made, n) and both[1][1](made, n)),
            )
        )
        | inner.map(lambda one: (f"not {one[0]}", lambda made, n: not one[1](made, n)))
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_any_combination_is_what_logic_says(store: Store, expression: tuple[str, Any]) -> None:
    """Row by row, the same as computing it naively."""
    text, naive = expression
    assert rows(store, text) == [n for n, made in enumerate(REQUESTS) if naive(made, n)]


@given(st.text('()-!:<>="andorth tool1s%', max_size=20))
def test_any_text_is_a_filter_or_a_mistake(store: Store, text: str) -> None:
    """Never another error."""
    try:
        parse(text).mask(store)
    except FilterError as error:
        assert str(error)


WORDS = [
    *("tool:Read", "status!=ok", '"a b"', "-Bash", "latency>2 s", "cache:exact|miss", "x|y"),
    *("tool:*", "(", ")", "or", "||", "and", "&", "not", "!", "|", "hit<50%", 'model:"a|b"'),
    *("'c d'", "time>1:00"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_a_filter_can_be_written_as_it_was_parsed(store: Store, text: str) -> None:
    """Written and parsed again it is the same tree, and matches the same."""
    try:
        wanted = parse(text)
    except FilterError:
        return
    again = parse(written(wanted.node))
    assert again == wanted
    assert np.array_equal(again.mask(store), wanted.mask(store))


def test_a_phase_is_the_one_of_the_moment() -> None:
    """Of a running request the last that was reported; it has one as of a moment too."""
    store, stream, start = Store(), Stream(), RequestStart(model="m", agent_id="a1")
    lines = [stream.line(start, 0, name) for name in ("r0", "r1", "r2")]
    for at_s, state in ((1.0, "wait"), (2, "prefill"), (3, "decode")):
        lines.append(stream.line(RequestProgress(state=state), at_s, "r0"))
    lines.append(stream.line(RequestEnd(), 4, "r1"))
    store.feed([batch(Path("a"), b"".join(lines)) or pytest.fail()])
    for text, at_s, found in [
        ("phase:queued", 1.5, [0]),
        ("phase=reading", 2.5, [0]),
        ("phase:writing", 9.0, [0]),
        ("phase:running", 9, [0, 2]),
        ("phase:ended", 9, [1]),
        ("phase:queued|ended", 9, [1]),
        ("agent:main", 9, []),
        ("agent:a1 -phase:running", 9, [1]),
    ]:
        assert np.flatnonzero(parse(text).mask(store, START_TS + at_s)).tolist() == found, text
    running = store.running(np.array([0, 1]))
    assert parse("phase:running").mask(running, START_TS + 1).tolist() == [True, True]


def test_times_are_those_before_the_moment_that_is_shown() -> None:
    """Of a time of day the last one; a range may go over midnight; a day is all of it."""
    at = [
        time.mktime((2026, 11, day, hour, 0, 0, 0, 0, -1))
        for day in (23, 24)
        for hour in (0, 12, 23)
    ]
    store, stream = Store(), Stream()
    lines = [
        stream.line(RequestStart(model="m"), ts - START_TS, f"r{n}") for n, ts in enumerate(at)
    ]
    store.feed([batch(Path("a"), b"".join(lines)) or pytest.fail()])
    now_ts = at[-1] + 600
    for text, found in {
        "time>12:00": [4, 5],
        "time>23:30": [3, 4, 5],
        "time<12:00": [0, 1, 2, 3],
        "time=12:00": [4],
        "time<=12:00": [0, 1, 2, 3, 4],
        "time:22:00..1:00": [5],
        "time:11:00..13:00": [4],
        "time:2026-11-23": [0, 1, 2],
        "time:2026-11-23..2026-11-24": [0, 1, 2, 3, 4, 5],
        "time>=2026-11-23 12:00": [1, 2, 3, 4, 5],
        "time=2026-11-23T23:00:00": [2],
        "ago<1h": [5],
    }.items():
        assert np.flatnonzero(parse(text).mask(store, now_ts)).tolist() == found, text


TYPED = "latency>2 status:ok tool:Read"


@pytest.mark.parametrize("end", range(1, len(TYPED) + 1))
def test_a_half_typed_word_hides_nothing(store: Store, end: int) -> None:
    """At every key something is listed, and no key is a mistake."""
    query = RequestQuery(store)
    query.type(TYPED[:end], end)
    assert query.mask is None or query.mask.any()
    if TYPED[:end].endswith(("lat", "status", "to", "status:")):
        before = TYPED[:end].rpartition(" ")[0]
        assert query.text == before


def test_what_is_half_typed_is_told(store: Store) -> None:
    """What lacks, or what may be meant; a space ends the word, and what is finished counts."""
    query = RequestQuery(store)
    for text, hint, is_listed in [
        ("tool:Raed", "tool: no Raed; Read?", True),
        ("tool:Raed ", "tool: no Raed; Read?", False),
        ("status:errr", "status: no errr; error?", True),
        ("latency>", "latency needs a time", True),
        ("(tool:Read or ", "", True),
        ("dialect:antropic|x ", "dialect: no antropic|x; anthropic?", False),
    ]:
        query.type(text, len(text))
        assert query.hint.startswith(hint) and bool(hint) == bool(query.hint), text
        assert (query.mask is None or bool(query.mask.any())) is is_listed, text
    with pytest.raises(FilterError, match="status: no errr"):
        query.type("status:errr ", 12)
    with pytest.raises(FilterError, match="status: no errr"):
        query.set("status:errr")


def test_what_no_request_can_have_is_told(store: Store) -> None:
    """Times outside what is recorded, and figures that none has: what there is instead."""
    query, last_ts = RequestQuery(store), float(store.by_start.times[-1])
    day = time.strftime("%Y-%m-%d", time.localtime(last_ts - 5 * 86_400))
    for text, hint in [
        ("hit>150%", "hit: there are 0% to "),
        ("latency>9h", "latency: there are "),
        (f"time:{day}", "time: nothing began then; requests began from 20"),
        (f"time:{day}T14:00..15:00", "time: nothing began then"),
        ("ago>9h", "ago: nothing began then"),
        ("ago<9h hit>=0%", ""),
        ("status:ok or hit>150%", "hit: "),
        ("time>2020-01-01", ""),
    ]:
        query.set(text)
        assert query.hint.startswith(hint) and bool(hint) == bool(query.hint), (text, query.hint)


def test_a_hint_looks_only_at_what_is_new() -> None:
    """Each request once, however often the hint is asked for."""
    store = Store()
    hints = Hints(store, parse("tool:Raed hit>150%"))
    steps = [[Made(10 * n + k, 1.0, tool="Read") for k in range(5)] for n in range(6)]
    for n, _ in enumerate(fed(store, steps), 1):
        for _ in range(3):
            assert hints.at().startswith("tool: no Raed")
        assert hints.n_looked == 5 * n


NAMES = st.sampled_from(["", "a", "b", "Read", "read me"])


STARTS = st.builds(
    RequestStart,
    model=NAMES,
    dialect=NAMES,
    agent_id=NAMES,
    n_messages=st.none() | st.integers(0, 3),
)


@st.composite
def made_requests(draw: st.DrawFn) -> list[tuple[RequestStart, RequestEnd | None, str]]:
    """Starts, ends and sessions."""
    return draw(
        st.lists(
            st.tuples(
                st.builds(
                    RequestStart,
                    model=NAMES,
                    dialect=NAMES,
                    agent_id=NAMES,
                    n_messages=st.none() | st.integers(0, 3),
                ),
                st.none()
                | st.builds(
                    RequestEnd,
                    outcome=st.sampled_from(["ok", "error"]),
                    input_tokens=st.none() | st.integers(0, 3),
                    miss_reason=st.sampled_from(["", "cold", "diverged"]),
                    diverged_block=NAMES,
                ),
                NAMES,
            ),
            max_size=6,
        )
    )


def naive(text: str, n: int, made: list[tuple[RequestStart, RequestEnd | None, str]]) -> bool:
    """Whether a request matches one term, without columns."""
    start, end, session = made[n]
    return {
        "model:read": "read" in start.model.lower(),
        "dialect=a": start.dialect == "a",
        'agent=""': start.agent_id == "",
        "messages>=2": (start.n_messages or 0) >= 2,
        "tokens_in!=2": end is None or end.input_tokens != 2,
        "miss:cold|diverged": end is not None and end.miss_reason != "",
        "blame:*": end is not None and end.diverged_block != "",
        "status:error": end is not None and end.outcome == "error",
        "first:yes": session != "" and session not in [each[2] for each in made[:n]],
        "session:a*e": False,
    }[text]


@given(
    made_requests(),
    st.sampled_from(
        ["model:read", "dialect=a", 'agent=""', "messages>=2", "tokens_in!=2", "miss:cold|diverged"]
        + ["blame:*", "status:error", "first:yes", "session:a*e"]
    ),
    st.integers(0, 6),
    st.integers(1, 7),
)
def test_a_filter_is_what_each_request_says(
    made: list[tuple[RequestStart, RequestEnd | None, str]], text: str, cut: int, part_rows: int
) -> None:
    """Over any store, at once, in parts and while it grows; just what is new is looked at."""
    store, stream, wanted = Store(), Stream(), parse(text)
    growing, path = GrowingMask(store, wanted, part_rows), Path("a")
    for n, (start, _, session) in enumerate(made):
        store.feed([batch(path, stream.line(start, n, f"req_{n}", session)) or pytest.fail()])
        if n == cut:
            growing.advance(0)
    for n, (_, end, session) in enumerate(made):
        if end is not None:
            store.feed(
                [batch(path, stream.line(end, 10 + n, f"req_{n}", session)) or pytest.fail()]
            )
        if n == cut:
            growing.at(0)
    expected = [naive(text, n, made) for n in range(len(made))]
    assert wanted.mask(store).tolist() == growing.at(0).tolist() == expected
    n_looked = growing.n_looked
    growing.at(0)
    assert growing.n_looked == n_looked
    anew, most = GrowingMask(store, wanted, part_rows), len(made) if "first" in text else part_rows
    n_running, is_known = len(store.open_rows), False
    while not is_known:
        n_before = anew.n_looked
        is_known = anew.advance(0)
        assert anew.n_looked - n_before <= most + n_running
    assert anew.at(0).tolist() == expected


def test_what_changes_faster_than_it_is_found_is_found_at_once() -> None:
    """As "ago" in a fast replay, where each look is at a later moment."""
    store, stream, n_rows = Store(), Stream(), 50
    lines = [stream.line(RequestStart(), n, f"req_{n}") for n in range(n_rows)]
    store.feed([batch(Path("a"), b"".join(lines)) or pytest.fail()])
    growing, now_ts = GrowingMask(store, parse("ago<30s"), 10), itertools.count(START_TS + n_rows)
    for _ in range(3):
        assert sum(not growing.advance(next(now_ts)) for _ in range(2)) == 1
    assert growing.n_looked == 3 * (10 + n_rows)


@given(
    st.text('aBÉ漢"{} 0', max_size=400),
    st.text('abé漢"0', min_size=1, max_size=3) | st.sampled_from(["arg", "gen"]),
)
def test_arguments_are_searched_as_they_are(arguments: str, word: str) -> None:
    """Of any length and in any letters, and not the names of their fields."""
    store, stream = Store(), Stream()
    call = ToolCall(name="T", parser="p", arguments=arguments)
    store.feed([batch(Path("a"), stream.line(call, 0, "r0")) or pytest.fail()])
    found = parse(quoted(word)).mask(store).tolist() == [True]
    wanted = word.lower()
    assert found == (wanted in arguments.lower() or wanted == "t" or "r0".startswith(wanted))


def test_each_text_is_looked_at_once_for_a_word() -> None:
    """However many requests hold it; and few words are remembered."""
    looked: list[int] = []

    class Counted(TextPattern):
        def among(self, texts: Sequence[str]) -> list[bool]:
            looked.append(len(texts))
            return super().among(texts)

    store, stream = Store(), Stream()
    lines = b"".join(line for n in range(300) for line in stream.request(Made(n, tool="Read"), n))
    store.feed([batch(Path("a"), lines) or pytest.fail()])
    for _ in range(3):
        assert anywhere(store, Counted("read"), 0).all()
    # Once for each column's texts, and once for the arguments of the calls that hold it.
    assert sum(looked) <= 2 * len(store.strings)
    for n in range(50):
        parse(f"word{n}").mask(store)
    assert len(store.strings._matching) <= MAX_PATTERNS
    assert len(store._arguments._found) <= MAX_WORDS
    for n in range(50):
        store.note_said(f"word{n}", ["req_7_0001"])
    store.forget_said({"word3"})
    assert len(store._said) <= MAX_SAID + 1 and store.saying("word3").sum() == 1


def test_a_filter_is_kept_without_names_of_others() -> None:
    """So that it stays what it is when they change, also under its own old name."""
    kept = {"slow": "latency>2s or ttft>1s"}
    assert expanded("@slow status:ok", kept) == "(latency>2s or ttft>1s) status:ok"
    assert expanded("not @slow", kept) == "not (latency>2s or ttft>1s)"
    assert expanded('text:"@slow"', kept) == 'text:"@slow"'


@given(st.text(max_size=20), st.sampled_from(["session=", "session:", ""]))
def test_any_text_can_be_quoted(name: str, field: str) -> None:
    """Also with quotation marks, parentheses, backslashes and signs; it finds itself."""
    assert unquoted(quoted(name)) == name
    store, stream = Store(), Stream()
    request = stream.line(RequestStart(model="m", dialect="anthropic"), 0, "req", name)
    store.feed([batch(Path("a"), request) or pytest.fail()])
    assert parse(f"not (not {field}{quoted(name)})").mask(store).tolist() == [True]
