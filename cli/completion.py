"""Print a script that completes commands in bash, zsh or fish. Your shell reads it at its start."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence

from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.declaration import declared
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

EXAMPLE = "mlxdeck completion zsh > _mlxdeck"
SHELLS = ("bash", "zsh", "fish")
FILES = ("FILE", "PATH", "FILE|PERIOD")


def add(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run(args: Namespace) -> int:
    import shtab

    from mlxdeck.cli.main import COMMANDS, build_parser

    parser = build_parser()
    for command in parser.subcommands():
        for action in command._actions:
            if action.metavar in FILES:
                _complete_with(action, shtab.FILE)
            elif action.metavar == "FOLDER":
                _complete_with(action, shtab.DIRECTORY)
            elif words := COMMANDS if action.metavar == "COMMAND" else _words(action):
                action.choices = words
    print(shtab.complete(parser, shell=args.shell))
    return 0


def _complete_with(action: Action, how: object) -> None:
    """Have shtab complete an argument in a way of its own."""
    vars(action)["complete"] = how


def _words(action: Action) -> Sequence[str]:
    """The words that a setting can be; empty if it is free. argparse itself doesn't check them."""
    setting = declared(Settings, DashboardSettings).get(action.dest)
    metavar = setting.metadata["kind"].metavar if setting else ""
    return metavar.split("|") if "|" in metavar else ()
