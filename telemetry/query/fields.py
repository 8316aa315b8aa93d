"""What can be filtered by: each field, and how it is read from the columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, comparable
from mlxdeck.telemetry.columns.record_batch import STATES, UNREADABLE
from mlxdeck.telemetry.query.lexer import Kind, quoted
from mlxdeck.telemetry.query.patterns import TextPattern
from mlxdeck.telemetry.schema.figures import EXACT, FIGURES, OPEN, Figure
from mlxdeck.telemetry.schema.figures import Kind as FigureKind
from mlxdeck.telemetry.store.store import BETWEEN_TOOLS
from mlxdeck.telemetry.store.table import Table

Numbers = Callable[[Table, float], GrowableArray]
"""One value a row as of a moment, NaN where there is none."""
Texts = Callable[[Table, TextPattern, float], GrowableArray]
"""For each row as of a moment whether a pattern is true of one of its texts."""
BETWEEN_FINISHES = ", "
YES, NO = "yes", "no"
NO_NAME = "unreadable"
"""What a call that could not be read is found by."""
OWN_ID = "req_"
"""How ids of ours begin."""
MAIN = "main"
RUNNING, ENDED = "running", "ended"
BETWEEN_PHASES = "\n"
_PHASES = {
    **{"": "", "prepare": "preparing", "wait": "queued", "prefill": "reading"},
    **{"decode": "writing"},
}
"""By the states of `record_batch`; a request that reported none yet only runs."""
FEW = 4
"""Up to so many texts, a column is faster compared with each than looked up in a table."""


@dataclass(frozen=True, slots=True)
class Field:
    """Something to filter by: numbers, or texts."""

    kind: Kind
    about: str
    example: str
    numbers: Numbers | None = None
    texts: Texts | None = None
    columns: tuple[str, ...] = ()
    """Of its texts, for completion."""
    choices: tuple[str, ...] = ()
    """All of its values, where no others can be."""
    between: str = ""
    """What separates several texts in one."""
    is_of_others: bool = False
    """Whether it depends on other requests than its own."""
    moves: bool = False
    """Whether it depends on the time that is shown."""


def _column(name: str) -> Numbers:
    def numbers(table: Table, now_ts: float) -> GrowableArray:
        return comparable(table.column(name))

    return numbers


def _hit(table: Table, now_ts: float) -> GrowableArray:
    total = table.column("input_tokens").astype(float)
    known = comparable(table.column("cached_tokens"))
    cached = np.where(table.column("cache") == EXACT, total, known)
    shares: GrowableArray = np.divide(
        cached, total, out=np.full(len(total), np.nan), where=total > 0
    )
    return shares


def _ago(table: Table, now_ts: float) -> GrowableArray:
    found: GrowableArray = now_ts - table.column("start_ts")
    return found


def coded(*names: str) -> Texts:
    """Columns of texts by number: each text is looked at once, each row by arithmetic alone."""

    def rows(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
        good = table.strings.matching(wanted)
        numbers = set(np.flatnonzero(good).tolist())
        found = np.zeros(table.n, bool)
        for name in names:
            held = numbers & table.strings.held(name)
            if len(held) > FEW:
                found |= np.take(good, table.column(name))
            for number in held if len(held) <= FEW else ():
                found |= table.column(name) == number
        return found

    return rows


def _listed(name: str, texts: Sequence[str]) -> Texts:
    def rows(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
        return np.take(np.array(wanted.among(texts)), table.column(name))

    return rows


def _called(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    """Names of tools; `read` doesn't find what is called unreadable."""
    if wanted.text in (UNREADABLE, NO_NAME):
        wanted = TextPattern(UNREADABLE, is_whole=True)
    named = replace(wanted, between=BETWEEN_TOOLS, spared=UNREADABLE)
    return np.take(table.strings.matching(named), table.column("tools"))


def _ids(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    names = table.names()
    if wanted.is_glob:
        # Rare, and of many requests slow.
        texts = [name.decode("utf-8", "replace").lower() for name in names.tolist()]
        return np.array(wanted.among(texts), bool)
    found = np.zeros(len(names), bool)
    for word in _spellings(wanted):
        found |= names == word if wanted.is_whole else np.strings.find(names, word) >= 0
    return found


def _spellings(wanted: TextPattern, before: str = "") -> set[bytes]:
    """How an id may be written."""
    return {f"{before}{text}".encode() for text in (wanted.text, wanted.typed or wanted.text)}


def anywhere(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    """What is said of a request: its texts, its tool calls, and how its id begins."""
    part = "" if wanted.is_whole else wanted.text
    found: GrowableArray = _SAID(table, wanted, now_ts) | _called(table, wanted, now_ts)
    found |= table.called_with(wanted, part)
    if wanted.is_whole:
        return found | _ids(table, wanted, now_ts)
    for begins in _spellings(wanted) | _spellings(wanted, OWN_ID):
        # All of ours begin alike, which nobody looks for.
        if begins and not OWN_ID.encode().startswith(begins):
            found |= np.strings.startswith(table.names(), begins)
    return found


def called_by(tool: str) -> str:
    """A filter of the requests that called a tool; of an empty name, of unreadable calls."""
    return f"tool={quoted(tool)}" if tool else f"tool:{NO_NAME}"


def _agents(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    """An agent by its id, its kind, its task or its parent's id; the main ones have no id."""
    if wanted.text == MAIN:
        return np.asarray(table.column("agent") == 0)
    return _NAMED_AGENTS(table, wanted, now_ts)


def _phases(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    """What a request does at a moment."""
    phases = [BETWEEN_PHASES.join(filter(None, (RUNNING, _PHASES[state]))) for state in STATES]
    found = np.take(np.array(wanted.among(phases)), table.states(now_ts))
    is_open, (is_ended,) = table.column("outcome") == OPEN, wanted.among([ENDED])
    return np.where(is_open, found, is_ended)


def _session_starts(table: Table, wanted: TextPattern, now_ts: float) -> GrowableArray:
    is_first = table.session_starts()
    yes, no = wanted.among((YES, NO))
    return is_first & yes | ~is_first & (table.column("session") > 0) & no


_LEXED: Mapping[FigureKind, Kind] = {"seconds": "seconds", "tokens": "count", "count": "count"}


def _of_figures() -> Iterator[tuple[str, Field]]:
    """A field for each that the table of figures names."""
    for figure in FIGURES:
        if not figure.example:
            continue
        if figure.is_number:
            kind, numbers = _LEXED[figure.kind], _column(figure.name)
            yield figure.field, Field(kind, figure.about, figure.example, numbers)
        elif choices := figure.choices:
            texts, named = _listed(figure.name, choices), tuple(filter(None, choices))
            yield (
                figure.field,
                Field("text", figure.about, figure.example, texts=texts, choices=named),
            )
        else:
            yield figure.field, _of_columns(figure)


def _of_columns(figure: Figure) -> Field:
    columns = _columns_of(figure.field)
    between = BETWEEN_FINISHES if figure.kind == "list" else ""
    return Field(
        *("text", figure.about, figure.example, None),
        *(coded(*columns), columns),
        between=between,
    )


def _columns_of(field: str) -> tuple[str, ...]:
    return tuple(each.name for each in FIGURES if each.field == field)


def _of_texts(figures: Iterable[Figure]) -> tuple[str, ...]:
    # Figures without a field are no words that a person would look for.
    return tuple(each.name for each in figures if each.kind in ("text", "list") and each.field)


_NAMED_AGENTS = coded(*_columns_of("agent"))
_SAID = coded("session", *_of_texts(FIGURES))
_COMPUTED = {
    "hit": Field("share", "share of the prompt from cache", "hit<50%", _hit),
    "time": Field("time", "when it began, also 14:00..15:00", "time>14:30", _column("start_ts")),
    "ago": Field("seconds", "how long ago it began", "ago<10m", _ago, moves=True),
    "tool": Field(
        *("text", "a tool it called, or unreadable", "tool:Read", None),
        *(_called, ("tools",)),
        between=BETWEEN_TOOLS,
    ),
    "session": Field(
        *("text", "the client's session", "session:1f2e", None),
        *(coded("session"), ("session",)),
    ),
    "agent": Field(
        *("text", "an agent of the client, or main", "agent:main", None),
        *(_agents, _columns_of("agent")),
    ),
    "phase": Field(
        *("text", "what it does: reading, writing", "phase:running", None, _phases),
        choices=(RUNNING, *filter(None, _PHASES.values()), ENDED),
        between=BETWEEN_PHASES,
    ),
    "first": Field(
        *("text", "first of its session", "first:yes", None, _session_starts),
        choices=(YES, NO),
        is_of_others=True,
    ),
    "id": Field("text", "the request's own name", "id:req_1", texts=_ids),
    "text": Field("text", "in any of these, or said in it", 'text:"a b"', texts=anywhere),
}
FIELDS: Mapping[str, Field] = dict(
    sorted([*_of_figures(), *_COMPUTED.items()], key=lambda named: named[1].numbers is None)
)
"""Numbers first, as they are typed most."""
ALIASES = {
    **{"total": "latency", "duration": "latency", "in": "tokens_in", "out": "tokens_out"},
    **{"end": "finish", "outcome": "status", "api": "dialect", "age": "ago", "reason": "miss"},
    **{"block": "blame", "started": "time", "turns": "messages"},
    **{"calls": "tools", "progress": "phase"},
}
"""What columns and figures are called elsewhere."""
