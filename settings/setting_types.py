"""How the value of a setting is read, from text or from what TOML makes of it, and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

Number = TypeVar("Number", int, float)
MAX_WHOLE = (1 << 63) - 1
"""What 64 bits hold, as in SQLite."""
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting is read, from text or from what TOML makes of it.

    `read` raises ValueError with a reason that fits after "NAME: ", and takes its own results.
    """

    metavar: str
    read: Callable[[object], object]
    is_table: bool = False
    """Whether it has names of its own, which don't fit into a flag."""


def text(*, empty: bool = True, metavar: str = "TEXT") -> Kind:
    """Any text."""

    def read(raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type_name(raw)}")
        if not raw and not empty:
            raise ValueError("must not be empty")
        return raw

    return Kind(metavar, read)


def choice(*options: str, more: Callable[[], Iterable[str]] = tuple) -> Kind:
    """One of a few words, or one of what `more` finds, which is asked only where it is needed."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or (raw not in options and raw not in more()):
            known = ", ".join([*options, *more()])
            raise ValueError(f"expected one of {known}, got {_shown(raw)}")
        return raw

    return Kind("|".join(options), read)


def address(*schemes: str, query: bool = False) -> Kind:
    """A URL of one of a few schemes, or nothing. Without `query` it ends with its path."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or (raw and not raw.startswith(schemes)):
            # Not the value: it may hold a password.
            raise ValueError(f"expected a URL that begins with {' or '.join(schemes)}")
        if not query and ("?" in raw or "#" in raw):
            # Nor here: keys stand in queries.
            raise ValueError("must not hold a query or a fragment")
        return raw

    return Kind("URL", read)


def subset(*options: str) -> Kind:
    """Some of a few words, with commas between them; none of them is fine too."""

    def read(raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type_name(raw)}")
        words = [word.strip() for word in raw.split(",") if word.strip()]
        if unknown := [word for word in words if word not in options]:
            raise ValueError(f"expected some of {', '.join(options)}, got {unknown[0]!r}")
        return ",".join(words)

    return Kind("WORD,...", read)


def keys() -> Kind:
    """Secrets with commas between them, as they can stand in a header; none is fine too."""

    def read(raw: object) -> str:
        # Never the value: it is a secret.
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type_name(raw)}")
        found = [key.strip() for key in re.split(r"[,\n]", raw)]
        if raw and not all(found):
            raise ValueError("a key must not be blank")
        if any(re.search(r"[\s\x00-\x1f\x7f]", key) for key in found):
            raise ValueError("a key must not hold blanks or control characters")
        return ",".join(found)

    return Kind("KEY,...", read)


def names() -> Kind:
    """Names in a list, or in a text with commas between them."""

    def read(raw: object) -> tuple[str, ...]:
        found = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"expected a list of names, got {type_name(raw)}")
        return tuple(each.strip() for each in found if each.strip())

    return Kind("NAME,...", read)


def variable_name() -> Kind:
    """The name of an environment variable, or nothing."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"([A-Z_][A-Z0-9_]*)?", raw):
            # Not the value: it may be the secret itself.
            raise ValueError("expected the name of an environment variable, as ANTHROPIC_API_KEY")
        return raw

    return Kind("NAME", read)


def host_names() -> Kind:
    """Names or addresses of hosts with commas between them, without ports; none is fine too."""

    def read(raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError(f"expected text, got {type_name(raw)}")
        names = [name.strip().lower().removesuffix(".") for name in raw.split(",") if name.strip()]
        for name in names:
            # A star would let in every page on the web, by a name of its own.
            if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*", name):
                raise ValueError(f"expected names of hosts, without ports or stars, got {name!r}")
        return ",".join(names)

    return Kind("NAME,...", read)


def switch() -> Kind:
    """On or off."""
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}

    def read(raw: object) -> bool:
        value = raw if isinstance(raw, bool) else words.get(str(raw).strip().lower())
        if value is None:
            raise ValueError(f"expected true or false, got {_shown(raw)}")
        return value

    return Kind("", read)


def whole(low: int, high: int = MAX_WHOLE) -> Kind:
    """A whole number within bounds, both included."""

    def read(raw: object) -> int:
        try:
            if isinstance(raw, bool) or not isinstance(raw, str | int):
                raise ValueError
            value = int(raw)
        except ValueError:
            raise ValueError(f"expected a whole number, got {_shown(raw)}") from None
        return _within(value, low, high)

    return Kind("N", read)


def number(low: float, high: float = math.inf) -> Kind:
    """A finite number within bounds, both included."""

    def read(raw: object) -> float:
        try:
            if isinstance(raw, bool) or not isinstance(raw, str | int | float):
                raise ValueError
            value = float(raw)
        except OverflowError:
            value = math.inf
        except ValueError:
            raise ValueError(f"expected a number, got {_shown(raw)}") from None
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {_shown(raw)}")
        return _within(value, low, high)

    return Kind("X", read)


_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}


def size(low: int = 0) -> Kind:
    """A number of bytes: 4096, "512MB" (powers of 1000) or "2GiB" (powers of 1024)."""

    def read(raw: object) -> int:
        matched = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", str(raw).strip())
        unit = _UNITS.get(matched[2].upper()) if matched else None
        if matched is None or unit is None:
            raise ValueError(f"expected a size such as 4096, 512MB or 2GiB, got {_shown(raw)}")
        n_bytes = Decimal(matched[1]) * unit
        if n_bytes > MAX_WHOLE:
            raise ValueError(f"must be at most {MAX_WHOLE:g}, got {_shown(raw)}")
        return _within(int(n_bytes), low, math.inf)

    return Kind("SIZE", read)


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration() -> Kind:
    """A number of seconds: 90, "90s", "30m", "12h" or "7d"."""

    def read(raw: object) -> float:
        matched = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", str(raw).strip())
        unit = _SECONDS.get(matched[2].lower()) if matched else None
        if matched is None or unit is None:
            raise ValueError(f"expected a duration such as 90s, 30m, 12h or 7d, got {_shown(raw)}")
        if math.isinf(seconds := float(matched[1]) * unit):
            raise ValueError(f"expected a finite duration, got {_shown(raw)}")
        return seconds

    return Kind("DURATION", read)


def optional(kind: Kind) -> Kind:
    """What `kind` reads, or nothing: None, and in text the empty string."""

    def read(raw: object) -> object:
        return None if raw is None or raw == "" else kind.read(raw)

    return Kind(kind.metavar, read)


def _within(value: Number, low: float, high: float) -> Number:
    if value < low:
        raise ValueError(f"must be at least {low:g}, got {_shown(value)}")
    if value > high:
        raise ValueError(f"must be at most {high:g}, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """A value in an error; of a long one, its beginning."""
    told = repr(value)
    return told if len(told) <= _MAX_SHOWN else f"{told[:_MAX_SHOWN]}…"


def type_name(raw: object) -> str:
    """A value's type in the words of the settings file."""
    known: dict[type, str] = {bool: "true or false", int: "a number", float: "a number"}
    known |= {list: "a list", dict: "a table", str: "text"}
    return known.get(type(raw), type(raw).__name__)
