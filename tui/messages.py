"""Messages from the reading thread and the widgets to the application."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from textual.message import Message

from mlxdeck.telemetry.analyze.shown_names import MAIN
from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.query.lexer import quoted
from mlxdeck.telemetry.read.tail import BadLine


@dataclass
class BatchArrived(Message):
    """The reading thread has more; it touches no widget and no store itself."""

    batch: RecordBatch


@dataclass
class SourceChanged(Message):
    """The followed files, or the problems with them, have changed."""

    following: list[str]
    n_bad: int = 0
    bad: Sequence[BadLine] = ()
    """The last ones of them."""
    refused: str = ""
    """Why one can't be read, if so."""
    loaded: float = 1.0
    """Share of the initial content that has been read, from 0 to 1."""
    notes: Sequence[str] = ()
    """What else a person should know of what was read: what was cut off, or skipped."""
    is_waiting: bool = False
    """Whether more is to come for certain, as of a pipe that is open."""
    left: Sequence[str] = ()
    """The names of pipes that nobody writes to any more, if nothing else is read."""
    gone: Sequence[tuple[int, float]] = ()
    """Processes of this machine that are gone without a word, and when each was heard last."""


@dataclass
class RequestChosen(Message):
    """The user wants to see one request, or how it differs from another."""

    row: int
    against: int = -1


@dataclass
class Searched(Message):
    """More requests were found that say a text."""

    text: str
    ids: set[str]


@dataclass
class SearchedAll(Message):
    """All that there is was looked through for these texts."""

    texts: Collection[str]


@dataclass
class OrderAsked(Message):
    """The user wants requests listed by a column, named by its title."""

    title: str


@dataclass
class SessionChosen(Message):
    """The user wants to see one conversation's requests, or those of one of its agents."""

    name: str
    agent: str | None = None
    """The agent's id, empty for the main one; None for all of them."""

    @property
    def filter(self) -> str:
        """What finds them."""
        only = "" if self.agent is None else f" agent={quoted(self.agent or MAIN)}"
        return f"session={quoted(self.name)}{only}"


@dataclass
class FilterChanged(Message):
    """Another filter is wanted; while it is typed, `typed_at` is where the cursor is."""

    text: str
    typed_at: int = -1


@dataclass
class HookFailed(Message):
    """An alert did not arrive."""

    text: str


@dataclass
class RedrawAsked(Message):
    """The view has changed, but not the data."""


@dataclass
class PreferencesChanged(Message):
    """Something is to be remembered that would be missed if the application ended badly."""
