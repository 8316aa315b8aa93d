"""The filter language: what it matches, what it refuses, and what it suggests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.query.completion import complete
from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.telemetry.query.filters import FilterError, expanded, parse
from mlxdeck.telemetry.query.lexer import quoted, unquoted
from mlxdeck.telemetry.schema.events import RequestStart
from mlxdeck.telemetry.store.store import Store
from tests.streams import Made, Stream, write

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
        ("and a", "something to look for is missing"),
        ("(" * 5000, "at most 100 words"),
        ("a " * 5000, "at most 100 words"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, message: str) -> None:
    """In words, and within the text."""
    with pytest.raises(FilterError, match=message.replace("(", r"\(").replace(")", r"\)")) as told:
        parse(text)
    assert 0 <= told.value.start <= told.value.end <= len(text) + 1


def test_completion_knows_fields_and_the_stores_values(store: Store) -> None:
    """With what they would replace."""
    assert [each.text for each in complete("lat", 3, store)] == ["latency>"]
    assert [each.text for each in complete("tool:", 5, store)] == ["tool:Bash", "tool:Read"]
    (found,) = complete("hit<1 tool:r", 12, store)
    assert (found.text, found.start, found.end) == ("tool:Read", 6, 12)
    assert [each.text for each in complete("(status:e", 9, store)] == ["status:error"]
    assert complete("latency>2", 9, store) == []
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
