"""The parser of one command: a short usage, and what a misspelt flag was meant to be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from mlxdeck.settings.errors import nearest

FEW = 6
"""Options that are all named in the usage; more are a wall of text in front of an error."""


class CommandFormatter(argparse.HelpFormatter):
    """Leaves room for the indent of commands, which argparse forgets: the longest would wrap."""

    def add_argument(self, action: argparse.Action) -> None:
        """Add an argument, or all commands."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are short."""

    def subcommands(self) -> list[CommandParser]:
        """The parsers of the commands."""
        groups = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        return [command for group in groups for command in group.choices.values()]

    def shown(self, dest: str) -> str:
        """What the user writes for an argument."""
        named = next(each for each in self._actions if each.dest == dest)
        return named.option_strings[0] if named.option_strings else _shown(named)

    def shorten_usage(self) -> None:
        """Name options in the usage only if they are few. Call it once all are added."""
        if len(self._option_string_actions) > FEW:
            words = [_shown(each) for each in self._actions if not each.option_strings]
            self.usage = " ".join([self.prog, "[OPTIONS]", *words]).replace("%", "%%")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with an error that says what the first of some unknown arguments may have meant."""
        word = next((each for each in unknown if each.startswith("-")), "")
        if not word:
            self.error(f"unexpected argument {unknown[0]!r}")
        known = [
            name
            for name, action in self._option_string_actions.items()
            if name.startswith("--") and action.help != argparse.SUPPRESS
        ]
        told = f"unknown option {nearest(word.partition('=')[0], known)}"
        if any(str(each.metavar).startswith("-- ") for each in self._actions):
            told += ". Options of the agent itself come after --"
        self.error(told)


def _shown(positional: argparse.Action) -> str:
    name = str(positional.metavar or positional.dest)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(
        str(positional.nargs), name
    )
