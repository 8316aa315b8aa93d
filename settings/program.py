"""Base of the settings of the server and of the dashboard.

A value comes from the first source that has it: a flag, a `MLXDECK_*` variable, the file that
`--config` or `MLXDECK_CONFIG` names, else `mlxdeck.toml` (in the working folder, else in
`$MLXDECK_HOME`). This module creates no folder, and reads nothing
before `load`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import platformdirs

from mlxdeck.settings import sources
from mlxdeck.settings.declaration import checked, declared, setting
from mlxdeck.settings.errors import SettingsError
from mlxdeck.settings.setting_types import text


def home_folder(environ: Mapping[str, str]) -> Path:
    """Folder of mlxdeck's files: `$MLXDECK_HOME`, else the platform's state folder."""
    given = environ.get(sources.ENV_HOME, "")
    return Path(given).expanduser() if given else platformdirs.user_state_path("mlxdeck")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSettings:
    """Base of a program's settings. Every instance is checked, also one made without `load`."""

    telemetry_dir: str = setting("", text(metavar="FOLDER"), group="Telemetry")
    """Folder of telemetry files; empty is the folder telemetry in $MLXDECK_HOME."""
    home: Path = field(default_factory=lambda: home_folder({}))
    """Folder of mlxdeck's files. Only `$MLXDECK_HOME` sets it."""
    file: Path | None = field(default=None, compare=False)
    """The settings file that was read."""
    given: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where a source has set a setting, also to its default, by the setting's name."""

    def __post_init__(self) -> None:
        for name, each in declared(type(self)).items():
            # The dataclass is frozen for its users; reading also normalises, as "2GiB" to a number.
            object.__setattr__(self, name, checked(name, each, getattr(self, name)))

    @property
    def telemetry_folder(self) -> Path:
        """Folder of telemetry files; it may not exist yet."""
        if self.telemetry_dir:
            return Path(self.telemetry_dir).expanduser()
        return self.home / "telemetry"

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object],
        environ: Mapping[str, str],
        cwd: Path,
        *,
        others: Collection[str] = (),
        config: str = "",
    ) -> Self:
        """Read the settings from all their sources.

        `flags` holds the values of the command line, by field name. `others` are the other
        program's settings. The file and the environment may hold them too; they are skipped.
        `config` is the settings file to read; by default, the variable's or the nearest one.

        Raises:
            SettingsError: An unknown name, a bad value or an unreadable file.
        """
        own, home = declared(cls), home_folder(environ)
        names = own.keys() | set(others)
        chosen = config or environ.get(sources.ENV_CONFIG, "")
        file = Path(chosen).expanduser() if chosen else sources.settings_file(cwd, home)
        is_found = not chosen and file is not None and file.parent.resolve() != home.resolve()
        values: dict[str, object] = {}
        given: dict[str, str] = {}
        for source in (
            sources.from_file(file, names) if file else (),
            sources.from_environ(environ, names),
            sources.from_flags(flags, own),
        ):
            for each in source:
                if each.name in own:
                    if is_found and each.is_of_file and own[each.name].metadata["trusted"]:
                        raise SettingsError(
                            f"{each.where}: not from a file in the working folder, which may be of"
                            f" others. Set it in {home / sources.FILE_NAME}, or name the file by"
                            " --config"
                        )
                    values[each.name] = checked(each.where, own[each.name], each.raw)
                    given[each.name] = each.place
        return cls(home=home, file=file, given=given, **values)  # type: ignore[arg-type]

    def to_environ(self) -> dict[str, str]:
        """Environment variables from which `load` makes the same settings in another process.

        Every setting is included, so that no file overrides a default chosen here.
        """
        values = {name: getattr(self, name) for name in declared(type(self))}
        return {
            sources.ENV_HOME: str(self.home),
            **({sources.ENV_CONFIG: str(self.file.resolve())} if self.file else {}),
            **{
                sources.variable(name): "" if value is None else str(value)
                for name, value in values.items()
            },
        }
