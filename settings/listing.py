"""All settings with their values and where those come from, and a settings file to begin with."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mlxdeck.settings.declaration import choices, declared, documented, grouped
from mlxdeck.settings.program import ProgramSettings
from mlxdeck.settings.setting_types import Kind
from mlxdeck.settings.sources import ENV_PREFIX

MASKED = "********"
DEFAULT = "default"
FILE_WIDTH = 100
_HEAD = """\
# Settings of mlxdeck. A flag or a MLXDECK_* variable wins over this file.
# To set one, remove the # in front of its line. Each line shows the default.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as a person reads it."""

    group: str
    name: str
    value: object
    """In a form that JSON has; masked if it is a secret."""
    shown: str
    """The value as a flag, a variable or the file would give it."""
    place: str
    """The flag, the variable, or the file and line; `default` if nothing set it."""

    @property
    def source(self) -> str:
        """The sort of place: flag, variable, file or default."""
        if self.place.startswith("--"):
            return "flag"
        if self.place.startswith(ENV_PREFIX):
            return "variable"
        return DEFAULT if self.place == DEFAULT else "file"


def rows(*programs: ProgramSettings) -> Iterator[SettingRow]:
    """Every setting of some programs by its heading; a hidden one only if it is set."""
    found = {name: program for program in reversed(programs) for name in declared(type(program))}
    types = [type(program) for program in programs]
    settings = declared(*types)
    for group, names in grouped(*types).items():
        for name in names:
            program, setting = found[name], settings[name]
            place = program.given.get(name, DEFAULT)
            if setting.metadata["hidden"] and place == DEFAULT:
                continue
            value = getattr(program, name)
            if not setting.repr and value:
                value = MASKED
            yield SettingRow(group, name, _plain(value), shown(setting, value), place)


def shown(setting: dataclasses.Field[object], value: object) -> str:
    """A value as the setting's own text."""
    kind: Kind = setting.metadata["kind"]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if kind.metavar == "SIZE" and isinstance(value, int):
        return _in_units(value, {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024})
    if kind.metavar == "DURATION" and isinstance(value, float):
        return _in_units(value, {"d": 86_400, "h": 3600, "m": 60, "s": 1})
    return f"{value:g}" if isinstance(value, float) else str(value)


def file_text(*programs: type) -> str:
    """A settings file in which every line is a comment, with each setting's meaning and default."""
    texts, settings = documented(*programs), declared(*programs)
    lines, tables = [_HEAD], ["## Tables, behind all that is none\n"]
    for group, names in grouped(*programs).items():
        shown_names = [name for name in names if not settings[name].metadata["hidden"]]
        lines += [f"## {group}\n"]
        for name in shown_names:
            about = textwrap.wrap(
                f"{texts[name]} {choices(settings[name])}", FILE_WIDTH,
                initial_indent="# ", subsequent_indent="# ",
            )  # fmt: skip
            if settings[name].metadata["kind"].is_table:
                tables += [*about, f"#[{name}]\n"]
            else:
                lines += [*about, f"#{name} = {_as_toml(settings[name])}\n"]
    return "\n".join([*lines, *tables])


def write_file(path: Path, *programs: type) -> None:
    """Write such a file for this user alone.

    Raises:
        FileExistsError: There is one.
        OSError: It can't be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # It may come to hold keys.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(file_text(*programs))


def _as_toml(setting: dataclasses.Field[object]) -> str:
    """The default; the empty text for none, as TOML has no word for it."""
    default = setting.default
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, int | float) and setting.metadata["kind"].metavar not in (
        "SIZE",
        "DURATION",
    ):
        return f"{default:g}" if isinstance(default, float) else str(default)
    return json.dumps(shown(setting, default), ensure_ascii=False)


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else json.loads(str(value))


def _in_units(value: float, units: dict[str, int]) -> str:
    for unit, size in units.items():
        if value and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)
