"""Where values come from: `mlxdeck.toml`, `MLXDECK_*` variables, flags.

An unknown name is an error in each source: a misspelt setting must not be ignored silently.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.settings.errors import SettingsError, nearest

FILE_NAME = "mlxdeck.toml"
ENV_PREFIX = "MLXDECK_"
ENV_HOME = "MLXDECK_HOME"
ENV_CONFIG = "MLXDECK_CONFIG"
ENV_TEST_PREFIX = "MLXDECK_TEST"
"""Variables that tests may set for themselves; no setting is called like that."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value of a source."""

    name: str
    """The setting's."""
    raw: object
    place: str
    """A flag, a variable, or a file and its line."""
    where: str
    """The same for the beginning of a message."""
    is_of_file: bool = False


def settings_file(cwd: Path, home: Path) -> Path | None:
    """The file in the working folder, else that in mlxdeck's home; None if there is neither."""
    candidates = (cwd / FILE_NAME, home / FILE_NAME)
    return next((path for path in candidates if path.exists()), None)


def from_file(path: Path, names: Collection[str]) -> Iterator[Given]:
    """A file of settings.

    Raises:
        SettingsError: It can't be read, or holds another name.
    """
    if path.exists() and not path.is_file():
        raise SettingsError(f"{path}: it is no regular file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {_reason(error)}") from error
    for name, raw in content.items():
        place = f"{path}:{_line(text, name)}"
        yield Given(_known(name, place, names), raw, place, f"{place}: {name}", is_of_file=True)


def _reason(error: Exception) -> object:
    if isinstance(error, OSError):
        return error.strerror
    # Python's words for a long integer are advice to programmers.
    is_known = isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError | RecursionError)
    return error if is_known else f"a number has more than {sys.get_int_max_str_digits():,} digits"


def _line(text: str, name: str) -> int:
    """The line where a name of a TOML file stands first; tomllib doesn't tell it."""
    begins = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if begins.match(line)), 1)


def from_environ(environ: Mapping[str, str], names: Collection[str]) -> Iterator[Given]:
    """All variables with mlxdeck's prefix, but for those of its home and of tests."""
    variables = {variable(name): name for name in names}
    for each, raw in environ.items():
        if not each.startswith(ENV_PREFIX) or each.startswith(ENV_TEST_PREFIX):
            continue
        if each not in (ENV_HOME, ENV_CONFIG):
            yield Given(variables[_known(each, "environment", variables)], raw, each, each)


def from_flags(flags: Mapping[str, object], names: Collection[str]) -> Iterator[Given]:
    """What the command line gave, by the settings' names."""
    for name, raw in flags.items():
        shown = flag(_known(name, "flags", names))
        yield Given(name, raw, shown, shown)


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return ENV_PREFIX + name.upper()


def flag(name: str) -> str:
    """The command line's name of a setting."""
    return "--" + name.replace("_", "-")


def _known(name: str, source: str, names: Iterable[str]) -> str:
    if name not in (known := list(names)):
        raise SettingsError(f"{source}: unknown setting {nearest(name, known)}")
    return name
