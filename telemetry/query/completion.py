"""What could be typed next in a filter: fields, filters with names, and values of a store. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mlxdeck.telemetry.query.filters import ALIASES, FIELDS
from mlxdeck.telemetry.query.lexer import TERM, quoted, unquoted
from mlxdeck.telemetry.schema.figures import FIGURES
from mlxdeck.telemetry.store.store import BETWEEN_TOOLS, Store


class Completion(NamedTuple):
    """A possible text at the cursor, and the characters that it replaces."""

    text: str
    start: int
    end: int


MAX_VALUES = 50
_APART = re.compile(r'[\s()"]')
"""A value that holds such has to be quoted."""


def complete(text: str, cursor: int, store: Store, kept: Iterable[str] = ()) -> list[Completion]:
    """Fields, kept filters, and values of the store that begin as the word at the cursor does."""
    begin, within = 0, False
    for place, character in enumerate(text[:cursor]):
        within ^= character == '"' and not (within and text[place - 1] == "\\")
        if not within and (character.isspace() or character == "("):
            begin = place + 1
    while text[begin:cursor].startswith(("-", "!")):
        begin += 1
    word = text[begin:cursor]
    found = TERM.fullmatch(word)
    if found is None:
        names = [name for name in FIELDS if name.startswith(word.lower())]
        signs = {name: ":" if FIELDS[name].numbers is None else ">" for name in names}
        named = [f"@{name}" for name in kept if word and f"@{name}".startswith(word)]
        return [
            *(Completion(name + signs[name], begin, cursor) for name in names),
            *(Completion(name, begin, cursor) for name in named),
        ]
    typed = unquoted(found[3]).lower()
    values = [
        value for value in _values(found[1].lower(), store) if value.lower().startswith(typed)
    ]
    words = [quoted(value) if _APART.search(value) else value for value in values[:MAX_VALUES]]
    return [Completion(f"{found[1]}{found[2]}{value}", begin, cursor) for value in words]


def _values(name: str, store: Store) -> list[str]:
    if name == "tool":
        lists = [store.strings[number] for number in np.unique(store.column("tools")).tolist()]
        return sorted({name for names in lists for name in names.split(BETWEEN_TOOLS) if name})
    field = ALIASES.get(name, name)
    figures = [figure for figure in FIGURES if figure.field == field and not figure.is_number]
    if choices := [choice for figure in figures for choice in figure.choices if choice]:
        return choices
    columns = ["session"] if field == "session" else [figure.name for figure in figures]
    numbers = {int(number) for column in columns for number in np.unique(store.column(column))}
    return [text for number in sorted(numbers) if (text := store.strings[number])]
