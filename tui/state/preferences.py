"""Preferences that the dashboard keeps between runs: window, theme, panels, filters."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

MAX_FILTERS = 20


@dataclass(slots=True)
class Preferences:
    """One user's."""

    window: str = "5m"
    theme: str = ""
    hidden: list[str] = field(default_factory=lambda: ["throughput", "errors", "tools"])
    """Panels that are not shown."""
    asked: list[str] = field(default_factory=list)
    """Panels that are shown in any width, though at first only in a wide terminal."""
    filters: list[str] = field(default_factory=list)
    """Used before, the latest first."""
    kept: dict[str, str] = field(default_factory=dict)
    """Filters by the names that the user gave them."""
    log_scale: bool = False
    marker: str = ""
    """What charts are drawn with."""

    known: set[str] = field(default_factory=set, compare=False)
    """The names of filters that were kept when it was read or written last. Is not written."""

    def used(self, text: str) -> None:
        """A filter was used."""
        self.filters = [text, *(each for each in self.filters if each != text)][:MAX_FILTERS]


_WRITTEN = [each.name for each in fields(Preferences) if each.name != "known"]


def recall(path: Path | None) -> Preferences:
    """The saved preferences. Missing or unreadable ones have their defaults."""
    ways = Preferences()
    try:
        found = json.loads(path.read_bytes()) if path else {}
    except (OSError, ValueError):
        return ways
    for name, value in found.items() if isinstance(found, dict) else ():
        if name in _WRITTEN and type(value) is type(getattr(ways, name, None)):
            setattr(ways, name, value)
    ways.hidden = [each for each in ways.hidden if isinstance(each, str)]
    ways.asked = [each for each in ways.asked if isinstance(each, str)]
    ways.kept = {name: text for name, text in ways.kept.items() if isinstance(text, str)}
    ways.known = set(ways.kept)
    ways.filters = [each for each in ways.filters if isinstance(each, str)]
    return ways


def remember(path: Path | None, ways: Preferences) -> None:
    """Write it down; that it can't be is no reason to complain at the end of a session.

    Filters that another dashboard kept meanwhile are added.
    """
    if path is None:
        return
    for name, text in recall(path).kept.items():
        if name not in ways.known:
            ways.kept.setdefault(name, text)
    ways.known = set(ways.kept)
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump({name: asdict(ways)[name] for name in _WRITTEN}, file)
        temporary.replace(path)
    except OSError:
        return
