"""Where values come from: `mlxdeck.toml`, `MLXDECK_*` variables, flags.

An unknown name is an error in each source: a misspelt setting must not be ignored silently.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from mlxdeck.settings.errors import SettingsError

FILE_NAME = "mlxdeck.toml"
ENV_PREFIX = "MLXDECK_"
ENV_HOME = "MLXDECK_HOME"
ENV_TEST_PREFIX = "MLXDECK_TEST"
"""Variables that tests may set for themselves; no setting is called like that."""

Found = Iterator[tuple[str, str, object]]
"""One value of a source: its place (for messages), the setting's name, the raw value."""


def from_file(cwd: Path, home: Path, names: Collection[str]) -> Found:
    """The file in the working folder, else that in mlxdeck's home.

    Raises:
        SettingsError: It can't be read, or holds another name.
    """
    for path in (cwd / FILE_NAME, home / FILE_NAME):
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path}: it is no regular file")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"{path}: {error}") from error
        for name, raw in content.items():
            yield f"{path}: {_known(name, str(path), names)}", name, raw
        return


def from_environ(environ: Mapping[str, str], names: Collection[str]) -> Found:
    """All variables with mlxdeck's prefix, but for those of its home and of tests."""
    variables = {variable(name): name for name in names}
    for each, raw in environ.items():
        if not each.startswith(ENV_PREFIX) or each.startswith(ENV_TEST_PREFIX):
            continue
        if each != ENV_HOME:
            yield each, variables[_known(each, "environment", variables)], raw


def from_flags(flags: Mapping[str, object], names: Collection[str]) -> Found:
    """What the command line gave, by the settings' names."""
    for name, raw in flags.items():
        yield flag(_known(name, "flags", names)), name, raw


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return ENV_PREFIX + name.upper()


def flag(name: str) -> str:
    """The command line's name of a setting."""
    return "--" + name.replace("_", "-")


def _known(name: str, source: str, names: Iterable[str]) -> str:
    if name in (known := list(names)):
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    raise SettingsError(f"{source}: unknown setting {name!r}; did you mean {nearest!r}?")
