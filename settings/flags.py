"""Settings as flags of a command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Mapping

from mlxdeck.settings.declaration import choices, declared, documented, grouped
from mlxdeck.settings.listing import shown
from mlxdeck.settings.setting_types import Kind
from mlxdeck.settings.sources import FILE_NAME, flag

MAX_METAVAR = 30
"""Longer lists of words stand in the text."""


def add_flags(
    parser: argparse.ArgumentParser,
    *programs: type,
    only: Collection[str] = (),
    hidden: Collection[str] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """Add a flag for each setting of some programs, or for those in `only`.

    Those in `hidden` work, but `--help` doesn't show them. Values stay text: `load` checks them,
    and `given_flags` finds them for it. `texts` replace those of the settings, by name.
    """
    told, settings = documented(*programs) | dict(texts or {}), declared(*programs)
    for heading, names in grouped(*programs).items():
        group = parser.add_argument_group(heading)
        for name in names:
            is_table = settings[name].metadata["kind"].is_table
            if not is_table and (not only or name in only):
                _add_flag(group, name, settings[name], told[name], hidden=name in hidden)
    parser.add_argument(
        "--config", metavar="FILE", help=f"file of settings to read in place of {FILE_NAME}"
    )


def _add_flag(
    group: argparse._ArgumentGroup,
    name: str,
    setting: dataclasses.Field[object],
    text: str,
    *,
    hidden: bool,
) -> None:
    kind: Kind = setting.metadata["kind"]
    metavar = kind.metavar
    if len(metavar) > MAX_METAVAR:
        metavar, text = "NAME", f"{text} {choices(setting)}"
    help_ = f"{text} {_shown_default(setting)}".rstrip().replace("%", "%%")
    if setting.metadata["hidden"] or hidden:
        help_ = argparse.SUPPRESS
    names = [flag(name), *setting.metadata["aliases"]]
    if isinstance(setting.default, bool):
        action = argparse.BooleanOptionalAction
        group.add_argument(*names, action=action, default=None, help=help_)
    else:
        bare = setting.metadata["bare"]
        nargs = "?" if bare else None
        group.add_argument(*names, metavar=metavar, help=help_, nargs=nargs, const=bare or None)


class _Refused(argparse.Action):
    """Ends the command with an error that says who has the flag."""

    def __call__(self, parser: argparse.ArgumentParser, *told: object) -> None:
        """Raises `SystemExit`; of what is `told`, the last is the flag."""
        parser.error(f"{told[-1]} {self.const}")


def refuse_flags(parser: argparse.ArgumentParser, names: Collection[str], why: str) -> None:
    """Refuse flags of another program: `why` follows the flag in the error's sentence."""
    for name in sorted(names):
        parser.add_argument(
            flag(name), action=_Refused, nargs="?", const=why, help=argparse.SUPPRESS
        )


def given_flags(args: argparse.Namespace, program: type) -> dict[str, object]:
    """The settings of a program from the command line, by field name."""
    given = vars(args)
    return {name: given[name] for name in declared(program) if given.get(name) is not None}


def _shown_default(setting: dataclasses.Field[object]) -> str:
    default = setting.default
    return "" if default is None or default == "" else f"(default: {shown(setting, default)})"
