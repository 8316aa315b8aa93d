"""Base class and fields of every event's attributes."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


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
