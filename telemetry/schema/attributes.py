"""Base class and fields of every event's attributes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

# What lies beyond these is no figure of ours. It would not fit a column or a calendar, and who
# plays or draws it would never end: a line with such a number can't be read by who needs it.
Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
"""Unix seconds."""
Seconds = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
"""Less than 0 where a clock was set back."""
Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
MAX_COUNT = 2**15 - 1
"""So many messages, calls or waiting requests are counted; of more, this is told."""
SmallCount = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Bytes, and whatever else is counted."""
Size = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
"""Mean bytes."""
Limit = Annotated[float, msgspec.Meta(ge=0)]
"""A user may set any."""
Pid = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Attrs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every event's attributes. `NAME` is the `event` field of its line."""

    NAME: ClassVar[str] = ""


def named(name: str, default: Any) -> Any:
    """A field that is left out of the line where it holds its default."""
    return msgspec.field(default=default, name=name)


def always(value: Any, name: str | None = None) -> Any:
    """A field that every line has, so that success is something to ask for, not an absence.

    msgspec leaves out plain defaults, and those alone.
    """
    return msgspec.field(default_factory=lambda: value, name=name)
