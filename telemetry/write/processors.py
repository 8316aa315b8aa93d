"""What an event goes through before it is written: small functions in a row.

    def process(record: Record) -> Record | None | list[Record]

A processor gives back the record, another one in its place, several, or None to leave it out. All
run on the writer's thread, in this order: `redact`, `Sample`, then those that the user names.
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TypeAlias

import msgspec

from mlxdeck.telemetry.redact import redacted, redacted_text
from mlxdeck.telemetry.schema.events import (
    CallResult,
    Content,
    Error,
    RequestEnd,
    RequestProgress,
    RequestStart,
    ToolCall,
)
from mlxdeck.telemetry.write.records import Record

logger = logging.getLogger(__name__)

Processor: TypeAlias = Callable[[Record], "Record | None | list[Record]"]
GROUP = "mlxdeck.telemetry_processors"
"""Entry points of other packages."""
MAX_MESSAGE, MAX_USER_TEXT = 500, 2_000
"""Characters that are kept."""
_AGENT = ("agent_id", "parent_agent_id", "agent_name", "agent_task")
MAX_TAIL = 1_500
"""Of an answer that is being written. More is looked at, or half a secret would stay in front."""
_WORD = "".join(map(chr, range(ord("!"), ord("~") + 1)))
"""Characters of words that a secret may be; other scripts have no spaces to wait for."""
MAX_HELD = 4096
"""Records of requests that may yet turn out to be errors."""


class UnknownProcessor(ValueError):
    """No installed package has a processor of this name, or it can't be loaded."""


def redact(record: Record) -> Record:
    """Mask secrets wherever an event holds the words of a client, a model or an error."""
    attrs = record.attrs
    changes: dict[str, object] = {}
    match attrs:
        case ToolCall():
            changes["name"] = _name(attrs.name)
            changes["arguments"] = redacted(attrs.arguments) if attrs.arguments else ""
            changes["parse_error"] = redacted_text(attrs.parse_error)
        case CallResult():
            changes["name"] = _name(attrs.name)
            changes["call_id"] = _name(attrs.call_id)
            changes["text"] = redacted_text(attrs.text)[:MAX_MESSAGE]
        case Content():
            # Tools name what they want to be given, which is no secret yet.
            mask = redacted_text if attrs.kind == "tools" else redacted
            changes["content"] = mask(attrs.content)
        case RequestProgress():
            changes["text"] = _settled(redacted_text(attrs.text)) if attrs.text else ""
        case Error():
            # Cut behind that, or half a secret would stay that nobody knows for one.
            changes["message"] = redacted_text(attrs.message)[:MAX_MESSAGE]
        case RequestStart():
            # Clients choose these names, too.
            changes["model"] = _name(attrs.model)
            changes["conversation_id"] = _name(attrs.conversation_id)
            changes |= {name: _name(getattr(attrs, name)) for name in _AGENT}
            changes["tool_names"] = tuple(map(_name, attrs.tool_names))
            changes["history_notes"] = tuple(map(_name, attrs.history_notes))
            changes["last_user_text"] = redacted_text(attrs.last_user_text)[:MAX_USER_TEXT]
            changes["stop_sequences"] = tuple(map(redacted_text, attrs.stop_sequences))
            changes["answer_schema"] = redacted_text(attrs.answer_schema)
    session_id = _name(record.session_id)
    is_kept = all(getattr(attrs, name) == value for name, value in changes.items())
    if is_kept and session_id == record.session_id:
        return record
    masked = msgspec.structs.replace(attrs, **changes)
    return Record(masked, record.ts, record.mono, record.request_id, session_id)


def _settled(text: str) -> str:
    """The end of a text that still grows, without its last word: it may be half a secret."""
    return text.rstrip(_WORD)[-MAX_TAIL:]


@lru_cache(1024)
def _name(name: str) -> str:
    """A short text that a client chose and sends again and again, with its secrets masked."""
    return redacted_text(name)


class Sample:
    """Keeps whole requests, a share of them chosen by their ids, and all that end in an error.

    What belongs to no request is kept. A request that is not chosen is held back until its end says
    whether it was an error.
    """

    def __init__(self, share: float) -> None:
        self._below = share * 2**32
        self._held: OrderedDict[str, list[Record]] = OrderedDict()
        self._n_held = 0

    def __call__(self, record: Record) -> Record | None | list[Record]:
        name = record.request_id
        if not name or zlib.crc32(name.encode("utf-8", "replace")) < self._below:
            return record
        if isinstance(record.attrs, RequestProgress):
            # There are many of them, and held back they would tell nothing in time.
            return None
        if isinstance(record.attrs, RequestEnd):
            held = self._held.pop(name, [])
            self._n_held -= len(held)
            return [*held, record] if record.attrs.outcome == "error" else None
        self._held.setdefault(name, []).append(record)
        self._n_held += 1
        while self._n_held > MAX_HELD:
            _, oldest = self._held.popitem(last=False)
            self._n_held -= len(oldest)
        return None


class Chain:
    """Processors one behind the other. For the writer's thread."""

    def __init__(self, processors: Sequence[Processor] = ()) -> None:
        self._processors = (redact, *processors)
        self.n_failures = 0
        """How often one of them raised."""
        self._said: set[int] = set()

    def run(self, record: Record) -> list[Record] | None:
        """The record to write; None if it must not be written, because it may hold secrets."""
        records = [record]
        for place, processor in enumerate(self._processors):
            passed: list[Record] = []
            for each in records:
                try:
                    found = processor(each)
                    passed += _listed(found)
                except Exception as error:  # noqa: BLE001 - code of others, whatever it raises
                    self._failed(place, error)
                    if processor is redact:
                        return None
                    passed.append(each)
            records = passed
        return records

    def _failed(self, place: int, error: Exception) -> None:
        self.n_failures += 1
        if place not in self._said:
            self._said.add(place)
            name = getattr(self._processors[place], "__name__", repr(self._processors[place]))
            logger.warning("telemetry: %s fails, its events pass without it: %r", name, error)


def _listed(found: Record | list[Record] | None) -> Iterable[Record]:
    if found is None:
        return ()
    listed = found if isinstance(found, list) else [found]
    for each in listed:
        if not isinstance(each, Record):
            raise TypeError(f"a processor gave {type(each).__name__} instead of a record")
    return listed


def named(names: Iterable[str]) -> list[Processor]:
    """The processors of installed packages that the settings name.

    Raises:
        UnknownProcessor: No package has one of that name, or it can't be loaded.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    found: list[Processor] = []
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise UnknownProcessor(f"no telemetry processor {name!r}; there are {there}")
        try:
            processor = known[name].load()
        except Exception as error:
            raise UnknownProcessor(f"telemetry processor {name!r}: {error!r}") from error
        if not callable(processor):
            raise UnknownProcessor(f"telemetry processor {name!r} can't be called")
        found.append(processor)
    return found
