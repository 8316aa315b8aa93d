"""What the reading thread and the widgets tell the application."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from mlxdeck.telemetry.tail import Record


@dataclass
class RecordsArrived(Message):
    """The reading thread has more; it touches no widget and no store itself."""

    records: list[Record]


@dataclass
class SourceChanged(Message):
    """What is being followed, or what is wrong with it, is not what it was."""

    following: list[str]
    n_bad: int
    last_bad: str
    refused: str


@dataclass
class RequestChosen(Message):
    """The user wants to see one request, or how it differs from another."""

    row: int
    against: int = -1


@dataclass
class SessionChosen(Message):
    """The user wants to see one conversation's requests."""

    name: str


@dataclass
class FilterChanged(Message):
    """Another filter was typed; `done` if the user is finished with it."""

    text: str
    done: bool = True


@dataclass
class RedrawAsked(Message):
    """What is shown has changed, though not by data."""
