"""Settings that are tables: of values by free names, or of a declared shape each.

In `mlxdeck.toml` they are TOML's tables. In a variable they are JSON, and they have no flag.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from mlxdeck.settings.declaration import declared
from mlxdeck.settings.errors import Misplaced, nearest
from mlxdeck.settings.setting_types import Kind, type_name

T = TypeVar("T")


class NamedValues(Mapping[str, T]):
    """The values of a table by their names. Its text is JSON that reads as the same."""

    def __init__(self, values: Mapping[str, T] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> T:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return json.dumps(self._values, default=_plain, ensure_ascii=False)

    def __repr__(self) -> str:
        return f"NamedValues({self._values!r})"

    def __hash__(self) -> int:
        return hash(str(self))


def mapping(kind: Kind) -> Kind:
    """Values of one kind by free names."""

    def read(raw: object) -> NamedValues[object]:
        given = _as_mapping(raw)
        return NamedValues({name: _read(name, kind, value) for name, value in given.items()})

    return Kind("", read, is_table=True)


def tables(
    shape: type[T], named: Callable[[str], object], beside: Mapping[str, Kind] | None = None
) -> Kind:
    """Tables of a declared shape by free names, and a few values `beside` them.

    `named` raises ValueError for a name that none may have. The shape is a dataclass whose fields
    are settings. A class method `refused` of it may say why a name that it lacks is none of it.
    """
    alone = beside or {}

    def read(raw: object) -> NamedValues[object]:
        found: dict[str, object] = {}
        for name, value in _as_mapping(raw).items():
            if name in alone:
                found[name] = _read(name, alone[name], value)
            else:
                _checked(name, named, name)
                found[name] = value if isinstance(value, shape) else _shaped(name, shape, value)
        return NamedValues(found)

    return Kind("", read, is_table=True)


def _shaped(name: str, shape: type[T], raw: object) -> T:
    if not isinstance(raw, Mapping):
        raise Misplaced(name, f"expected a table, got {type_name(raw)}")
    known = declared(shape)
    for key in raw:
        if key not in known:
            raise Misplaced(name, _unknown(shape, str(key), known))
    values = {
        key: _read(f"{name}.{key}", known[key].metadata["kind"], each) for key, each in raw.items()
    }
    return _checked(name, lambda _: shape(**values), raw)


def _unknown(shape: type, key: str, known: Collection[str]) -> str:
    refused = getattr(shape, "refused", None)
    return (refused and refused(key)) or f"unknown setting {nearest(key, known)}"


def _read(place: str, kind: Kind, raw: object) -> object:
    return _checked(place, kind.read, raw)


def _checked(place: str, read: Callable[[Any], T], raw: object) -> T:
    try:
        return read(raw)
    except Misplaced as error:
        raise Misplaced(f"{place}.{error.place}", error.reason) from error
    except ValueError as error:
        raise Misplaced(place, str(error)) from error


def _as_mapping(raw: object) -> Mapping[str, object]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError):
            raise ValueError("expected a table, in a variable as JSON") from None
    if not isinstance(raw, Mapping):
        raise ValueError(f"expected a table, got {type_name(raw)}")
    return raw


def _plain(value: Any) -> Any:
    """A table as a dict; of one of a declared shape, what differs from its defaults."""
    if isinstance(value, NamedValues):
        return dict(value)
    told = {each.name: (getattr(value, each.name), each.default) for each in fields(value)}
    return {name: now for name, (now, default) in told.items() if now != default}
