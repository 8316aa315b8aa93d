"""Settings as flags of a command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection

from mlxdeck.settings.declaration import declared, documented
from mlxdeck.settings.setting_types import Kind
from mlxdeck.settings.sources import flag


def add_flags(
    parser: argparse.ArgumentParser,
    *programs: type,
    only: Collection[str] = (),
    hidden: Collection[str] = (),
) -> None:
    """Add a flag for each setting of some programs, or for those in `only`.

    Those in `hidden` work, but `--help` doesn't show them. Values stay text: `load` checks them,
    and `given_flags` finds them for it.
    """
    texts = documented(*programs)
    for name, setting in declared(*programs).items():
        if only and name not in only:
            continue
        kind: Kind = setting.metadata["kind"]
        help_ = f"{texts[name]} {_shown_default(setting)}".rstrip().replace("%", "%%")
        if setting.metadata["hidden"] or name in hidden:
            help_ = argparse.SUPPRESS
        if isinstance(setting.default, bool):
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag(name), action=action, default=None, help=help_)
        else:
            bare = setting.metadata["bare"]
            nargs = "?" if bare else None
            parser.add_argument(
                flag(name), metavar=kind.metavar, help=help_, nargs=nargs, const=bare or None
            )


def given_flags(args: argparse.Namespace, program: type) -> dict[str, object]:
    """The settings of a program from the command line, by field name."""
    given = vars(args)
    return {name: given[name] for name in declared(program) if given.get(name) is not None}


def _shown_default(setting: dataclasses.Field[object]) -> str:
    default = setting.default
    if default is None or default == "":
        return ""
    if setting.metadata["kind"].metavar == "SIZE" and isinstance(default, int) and default:
        return f"(default: {default // 1024**2}MiB)"
    if setting.metadata["kind"].metavar == "DURATION" and isinstance(default, float):
        return f"(default: {default / 86_400:g}d)"
    return f"(default: {'on' if default is True else default})"
