"""Words about a filter that is understood, but finds nothing: a value that no request has. Pure."""

from __future__ import annotations

import math

from mlxdeck.telemetry.query.completion import known_values
from mlxdeck.telemetry.query.fields import FIELDS
from mlxdeck.telemetry.query.filters import Filter, term_look
from mlxdeck.telemetry.query.parser import no_value
from mlxdeck.telemetry.query.syntax import Term, terms
from mlxdeck.telemetry.store.store import Store


def unmatched(wanted: Filter, store: Store, now_ts: float = math.nan) -> str:
    """The first value that no request has, and which one may be meant; empty if there is none.

    Numbers and words alone are left out: there, to find nothing is an answer.
    """
    for term in terms(wanted.node):
        field = FIELDS[term.name or "text"]
        if field.columns and not term_look(term)(store, now_ts).any():
            return _told(term, store)
    return ""


def _told(term: Term, store: Store) -> str:
    name, texts = term.name, [value.text for value in term.values if value.text]
    if not texts:
        return ""
    return no_value(name, "|".join(texts), known_values(FIELDS[name], store))
