"""Errors that a user can correct."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NEAR = 0.7
"""Share of letters in common from which a name may have been meant: `repaly`, not `backend`."""
MIN_BEGINNING = 3
"""Letters of a name that begins with what was written."""


class UserError(Exception):
    """Base of errors that the user can fix. A command prints the text without a traceback."""


class SettingsError(UserError, ValueError):
    """A setting is unknown or has a bad value; the text names the source."""


class Misplaced(ValueError):
    """A value inside a table is bad; `place` is its path there, as `cloud.url`."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def nearest(name: str, known: Iterable[str]) -> str:
    """An unknown name, quoted, with the known one that was perhaps meant."""
    meant = meant_by(name, known)
    return f"{name!r}; did you mean {meant!r}?" if meant else repr(name)


def meant_by(name: str, known: Iterable[str]) -> str:
    """The known name that was perhaps meant; empty if none is near."""
    spelt = {_plain(each): each for each in known}
    wanted = _plain(name)
    if found := difflib.get_close_matches(wanted, spelt, n=1, cutoff=NEAR):
        return spelt[found[0]]
    longer = [each for each in spelt if each.startswith(wanted)]
    return spelt[longer[0]] if len(longer) == 1 and len(wanted) >= MIN_BEGINNING else ""


def _plain(name: str) -> str:
    """Without what flags and variables have in common: it would make them all alike."""
    return name.lower().removeprefix("mlxdeck_").lstrip("-").replace("-", "_")
