"""One finding about recorded traffic, and the traffic that findings look at. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlxdeck.telemetry.analyze.raw_lines import lines_of
from mlxdeck.telemetry.analyze.shown_names import ShownNames
from mlxdeck.telemetry.analyze.stats import Array
from mlxdeck.telemetry.analyze.token_costs import TokenCosts, seconds, token_costs
from mlxdeck.telemetry.columns.growable_array import summable
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import MISS, OK, PREFIX
from mlxdeck.telemetry.store.store import Store

MIN_REQUESTS = 3
"""What happened once or twice may be an accident."""
MIN_TIME_SHARE = 0.02
"""Of all the time that clients waited: whoever gets less back will not notice it."""
MIN_FAULT_SHARE = 0.05
"""Of requests or calls: fewer go wrong on any good day, by people who press Esc."""
MAX_SHOWN = 5
"""Requests that a finding names; the costliest first."""
LOCAL_PROVIDERS = ("", "mlx")


@dataclass(frozen=True, slots=True)
class ReportFinding:
    """Something that costs time, tokens or answers, and what helps against it."""

    name: str
    """Its kind, for programs."""
    title: str
    """What happens, as a sentence."""
    evidence: tuple[str, ...]
    """Figures that show it."""
    advice: tuple[str, ...]
    """Settings and acts that help, the best first."""
    n_requests: int
    requests: tuple[str, ...]
    """Ids of some that show it, the costliest first."""
    saves_s: float | None = None
    """Estimated seconds that clients would not have waited; None if it saves no time."""
    saves_tokens: int | None = None
    """Estimated prompt tokens that would not have been computed."""


Detector = Callable[["Traffic"], Iterator[ReportFinding]]


class Traffic:
    """Requests that ended, with what detectors share. Reads lines of single requests again."""

    def __init__(self, store: Store, rows: Array, names: ShownNames) -> None:
        self.store = store
        self.rows = rows
        self.names = names

    def column(self, name: str) -> Array:
        """A figure of each row."""
        return self.store.column(name)[self.rows]

    def known(self, name: str) -> Array:
        """A figure of each row, 0 where it is not known."""
        return summable(self.column(name).astype(np.float64))

    def is_any(self, name: str, *texts: str) -> Array:
        """Whether a text of each row is one of some."""
        numbers = [self.store.strings.number(text) for text in texts]
        return np.isin(self.column(name), numbers)

    def begins(self, name: str, start: str) -> Array:
        """Whether a text of each row begins like that."""
        numbers, places = np.unique(self.column(name), return_inverse=True)
        found = [self.store.strings[number].startswith(start) for number in numbers.tolist()]
        return np.array(found, bool)[places]

    @cached_property
    def ok(self) -> Array:
        """Whether each was answered."""
        return np.asarray(self.column("outcome") == OK)

    @cached_property
    def computed(self) -> Array:
        """Whether a model here worked at each: no whole answer, and no other server."""
        is_local = self.is_any("provider", *LOCAL_PROVIDERS)
        return np.asarray(np.isin(self.column("cache"), (MISS, PREFIX)) & is_local)

    @cached_property
    def waited_s(self) -> float:
        """What all clients waited, together."""
        return seconds(self.store, "duration_s", self.rows)

    @cached_property
    def new_tokens(self) -> Array:
        """Prompt tokens that each computed."""
        known = np.minimum(self.known("cached_tokens"), self.known("input_tokens"))
        return np.where(self.computed, self.known("input_tokens") - known, 0)

    @cached_property
    def cost(self) -> TokenCosts:
        """What a token costs."""
        return token_costs(self.store, self.rows)

    @cached_property
    def before(self) -> Array:
        """For each the place of the request before in its conversation; -1 for the first one.

        A conversation is what one agent of a session asks with one set of tools or none. Whole
        answers from a cache compute nothing, and are not counted.
        """
        found = np.full(len(self.rows), -1)
        places = np.flatnonzero(self.computed & (self.column("session") > 0))
        keys = [self.column(name)[places] for name in ("start_ts", "agent", "session")]
        has_tools = self.column("tools_hash")[places] > 0
        order = np.lexsort((keys[0], has_tools, keys[1], keys[2]))
        same = np.ones(max(0, len(order) - 1), bool)
        for key in (has_tools, *keys[1:]):
            same &= key[order][1:] == key[order][:-1]
        found[places[order[1:][same]]] = places[order[:-1][same]]
        return found

    @cached_property
    def lost_tokens(self) -> Array:
        """Tokens of each prompt that a request before had computed, and that were computed again.

        At most the prompt and answer before; of a conversation's first request, at most the system
        prompt and the tools.
        """
        earlier = self.known("input_tokens") + self.known("output_tokens")
        had = np.where(self.before >= 0, earlier[self.before], self.known("shared_tokens"))
        # One token is always left to run.
        had = np.minimum(had, self.known("input_tokens") - 1)
        return np.asarray(np.clip(had - self.known("cached_tokens"), 0, self.new_tokens))

    def read_s(self, tokens: Array) -> Array:
        """What it took to compute so many tokens of each prompt."""
        computed = np.maximum(self.new_tokens, 1)
        return np.asarray(self.known("prefill_s") * np.minimum(1, tokens / computed))

    def ids(self, places: Array, costs: Array | None = None) -> tuple[str, ...]:
        """The ids of the costliest of some rows."""
        if costs is not None:
            places = places[np.argsort(-costs, kind="stable")]
        return tuple(self.names.request(self.store.ids[int(self.rows[place])])
                     for place in places[:MAX_SHOWN].tolist())  # fmt: skip

    def matters(self, saved_s: float) -> bool:
        """Whether so much time is worth a finding."""
        return saved_s > 0 and saved_s >= MIN_TIME_SHARE * self.waited_s

    def events(self, place: int) -> list[t.Attrs]:
        """All that is recorded of a request."""
        found = []
        for line in lines_of(self.store, int(self.rows[place])):
            attrs = codec.decode(line).attrs
            if attrs is not None:
                found.append(attrs)
        return found

    def groups(self, places: Array, name: str) -> Iterator[tuple[str, Array]]:
        """Some rows by one of their texts, the largest group first."""
        numbers = self.column(name)[places]
        kinds, counts = np.unique(numbers, return_counts=True)
        for place in np.argsort(-counts, kind="stable").tolist():
            yield self.store.strings[int(kinds[place])], places[numbers == kinds[place]]
