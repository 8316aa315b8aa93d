"""What could be typed next in a filter: fields, filters with names, and values of a store. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mlxdeck.telemetry.columns.record_batch import UNREADABLE
from mlxdeck.telemetry.query.fields import ALIASES, FIELDS, MAIN, NO_NAME, Field
from mlxdeck.telemetry.query.lexer import quoted, term_text, tokens, values
from mlxdeck.telemetry.query.parser import WORDS
from mlxdeck.telemetry.store.store import Store


class Completion(NamedTuple):
    """A possible text at the cursor, and the characters that it replaces."""

    text: str
    start: int
    end: int


MAX_VALUES = 50
_APART = re.compile(r"""[\s()"'|,&*]""")
"""A value that holds such has to be quoted."""


def complete(text: str, cursor: int, store: Store, kept: Iterable[str] = ()) -> list[Completion]:
    """Fields, kept filters, and values of the store that begin as the word at the cursor does.

    What is typed in full already is not among them.
    """
    begin = _begin(text, cursor)
    word = text[begin:cursor]
    told = term_text(word)
    if not told.name:
        names = [name for name in (*FIELDS, *ALIASES) if name.startswith(word.lower())]
        found = [f"{name}{sign_of(FIELDS[ALIASES.get(name, name)])}" for name in names]
        if word:
            found += [each for each in WORDS if each.startswith(word.lower())]
            found += [f"@{name}" for name in kept if f"@{name}".startswith(word)]
        else:
            found = [each for each in found if each.rstrip(":>") in FIELDS]
        return [Completion(each, begin, cursor) for each in found if each != word]
    head = word[: len(word) - len(told.value)]
    if (field := FIELDS.get(ALIASES.get(told.name, told.name))) is None or field.numbers:
        return []
    # The values before the last one of several stay.
    typed = values(told.value, listed=True)[-1].text.lower()
    start = len(told.value) - len(re.split(r"[|,]", told.value)[-1]) if '"' not in word else 0
    head += told.value[:start]
    fitting = [value for value in known_values(field, store) if value.lower().startswith(typed)]
    words = [quoted(value) if _APART.search(value) else value for value in fitting[:MAX_VALUES]]
    texts = [f"{head}{value}" for value in words]
    return [Completion(each, begin, cursor) for each in texts if each != word]


def sign_of(field: Field) -> str:
    """The sign that is used most with a field."""
    return ":" if field.numbers is None else ">"


def _begin(text: str, cursor: int) -> int:
    """Where the word at the cursor begins."""
    for token in tokens(text[:cursor]):
        if token.kind == "term" and token.end == cursor:
            return token.start
    last = [token for token in tokens(text[:cursor]) if token.end == cursor]
    return last[0].start if last and last[0].text.isalpha() else cursor


def known_values(field: Field, store: Store) -> list[str]:
    """The values that there are of a field, sorted."""
    if field.choices:
        return list(field.choices)
    found = {
        text
        for name in field.columns
        for number in store.strings.held(name) or np.unique(store.column(name)).tolist()
        for text in _several(store.strings[number], field.between)
    }
    if field is FIELDS["agent"]:
        found.add(MAIN)
    if UNREADABLE in found:
        found = found - {UNREADABLE} | {NO_NAME}
    return sorted(filter(None, found), key=str.lower)


def _several(text: str, between: str) -> list[str]:
    return text.split(between) if between else [text]
