"""Which backend a model's name leads to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_NAME = 256
"""Characters of a client's name of a model that patterns are tried on."""
SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Target:
    """A backend, and the model that it is asked for; empty for whatever the client says."""

    backend: str
    model: str = ""

    def name_for(self, asked: str) -> str:
        """What the backend is told. `NAME/MODEL` says that this very model is meant."""
        return f"{self.backend}{SEPARATOR}{self.model}" if self.model else asked


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one request goes."""

    target: Target
    model: str
    """The name that the backend is told."""


class RoutingTable:
    """Names of models and the backends that answer to them."""

    def __init__(
        self,
        backends: Iterable[str],
        default: Target,
        aliases: Mapping[str, Target] | None = None,
        *,
        small: Target | None = None,
        small_models: Sequence[str] = (),
        fallback: Target | None = None,
    ) -> None:
        """Aliases and `small_models` may have stars; of several that match, the first counts."""
        self.default = default
        self.fallback = fallback
        self.small = small
        self._backends = frozenset(backends)
        given = aliases or {}
        self.aliases = {name: to for name, to in given.items() if not _has_stars(name)}
        """Those that are names as they stand."""
        self._exact = {name.lower(): to for name, to in self.aliases.items()}
        patterns = [(name, to) for name, to in given.items() if _has_stars(name)]
        if small is not None:
            patterns += [(name, small) for name in small_models]
        self._patterns = [(_pattern(name), to) for name, to in patterns]

    def destinations(self, asked: str) -> tuple[Destination, ...]:
        """The backend for a client's name of a model, then the one that takes over from it.

        Who names a backend, as `NAME` or `NAME/MODEL`, means that one and no other.
        """
        name, _, model = asked.partition(SEPARATOR)
        if name in self._backends:
            return (Destination(Target(name, model), asked),)
        first = self._target(asked)
        found = [first]
        if self.fallback is not None and self.fallback.backend != first.backend:
            found.append(self.fallback)
        return tuple(Destination(target, target.name_for(asked)) for target in found)

    def _target(self, asked: str) -> Target:
        if len(asked) > MAX_NAME:
            return self.default
        lowered = asked.lower()
        if (exact := self._exact.get(lowered)) is not None:
            return exact
        matching = (to for pattern, to in self._patterns if pattern.fullmatch(lowered))
        return next(matching, self.default)


def _has_stars(name: str) -> bool:
    return "*" in name


def _pattern(name: str) -> re.Pattern[str]:
    """A name with stars, each for any characters; no other character has a meaning."""
    return re.compile(".*".join(map(re.escape, name.lower().split("*"))), re.DOTALL)
