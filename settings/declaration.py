"""What declares a setting: a field of a dataclass, with its kind, and a docstring below it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from typing import TypeVar, cast

from mlxdeck.settings.errors import Misplaced, SettingsError
from mlxdeck.settings.setting_types import Kind

T = TypeVar("T")
Declared = dict[str, dataclasses.Field[object]]


def setting(
    default: T,
    kind: Kind,
    *,
    secret: bool = False,
    hidden: bool = False,
    trusted: bool = False,
    bare: str = "",
    group: str = "",
    aliases: tuple[str, ...] = (),
) -> T:
    """Declare a setting. A `hidden` one works, but `--help` doesn't show it.

    A `trusted` one runs programs or sends something: a file that merely lies in the working folder,
    as in a repository of others, can't set it.

    A flag without a value means `bare`, if that is set. `aliases` are more flags. `group` is the
    heading of this setting and of those below it, up to the next that has one.
    """
    metadata = {
        "kind": kind,
        "hidden": hidden,
        "trusted": trusted,
        "bare": bare,
        "group": group,
        "aliases": aliases,
    }
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


def declared(*programs: type) -> Declared:
    """The settings of some programs by name, each once."""
    found: Declared = {}
    for program in programs:
        for each in dataclasses.fields(program):
            if "kind" in each.metadata:
                found.setdefault(each.name, each)
    return found


def grouped(*programs: type) -> dict[str, list[str]]:
    """The settings' names by their headings, each program's own before those of its base."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for program in programs:
        own = [each for each in dataclasses.fields(program) if "kind" in each.metadata]
        heading = ""
        for each in sorted(own, key=lambda each: each.name not in program.__annotations__):
            heading = each.metadata["group"] or heading
            if each.name not in seen:
                seen.add(each.name)
                found.setdefault(heading, []).append(each.name)
    return found


def documented(*programs: type) -> dict[str, str]:
    """The docstring below each field; Python itself doesn't keep it."""
    found: dict[str, str] = {}
    for program in programs:
        for each in reversed(program.__mro__):
            if dataclasses.is_dataclass(each):
                found |= _docstrings(each)
    return found


def choices(setting_: dataclasses.Field[object]) -> str:
    """A sentence that names the words a setting can be; empty if it is free."""
    metavar = setting_.metadata["kind"].metavar
    return f"One of: {metavar.replace('|', ', ')}." if "|" in metavar else ""


def checked(where: str, setting_: dataclasses.Field[object], raw: object) -> object:
    """The value that a source gives.

    Raises:
        SettingsError: It is none of this kind; the text begins with `where`.
    """
    kind: Kind = setting_.metadata["kind"]
    try:
        return kind.read(raw)
    except Misplaced as error:
        raise SettingsError(f"{where}.{error}") from error
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def _docstrings(program: type) -> dict[str, str]:
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(program)).body[0]).body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
