"""Settings of a command: flags, environment, and the file that server and dashboard share.

File and environment may hold settings of either, so each gets the names of the other's.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from pathlib import Path

from mlxdeck.server.config.api_keys import first_key, warn_of_visible_key
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.declaration import declared
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.flags import add_flags, given_flags, refuse_flags
from mlxdeck.settings.sources import flag
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

ALERTS = sorted(declared(DashboardSettings).keys() - declared(Settings).keys())
HOOKS = ("alert_exec", "alert_url")
"""Those of them that tell others."""
WHO_ALERTS = "is for those who watch a server: mlxdeck tui, up, and stats --watch"


def add_server_flags(parser: ArgumentParser) -> None:
    """All flags of the server. Those of the dashboard are refused."""
    add_flags(parser, Settings)
    refuse_flags(parser, ALERTS, WHO_ALERTS)


def add_all_flags(parser: ArgumentParser) -> None:
    """All flags of both programs."""
    add_flags(parser, Settings, DashboardSettings)


def refuse_alerts(args: Namespace, why: str) -> None:
    """Raises `UserError` if alerts are set by flags; `why` says why they can't be."""
    if given := [name for name in ALERTS if getattr(args, name, None) is not None]:
        raise UserError(f"{flag(given[0])}: {why}")


def refuse_idle(args: Namespace, when: str, *names: str) -> None:
    """Raises `UserError` if one of some arguments is there, which mean nothing `with URL`."""
    for name in names:
        if getattr(args, name, None) not in (None, "", [], False):
            raise UserError(f"{args.parser.shown(name)} changes nothing {when}")


def refuse_settings(args: Namespace, when: str, but: Collection[str] = ()) -> None:
    """The same of all settings of both programs, but for some."""
    named = [each for each in declared(Settings, DashboardSettings) if each not in but]
    refuse_idle(args, when, *named, "served")


def add_dashboard_flags(parser: ArgumentParser) -> None:
    """All flags of the dashboard."""
    add_flags(parser, DashboardSettings)


def add_replay_flags(parser: ArgumentParser) -> None:
    """Those that change a replay: the lines of thresholds. It tells nobody else."""
    shown = declared(DashboardSettings).keys() - {*HOOKS, "telemetry_dir"}
    add_flags(parser, DashboardSettings, only=shown)
    refuse_flags(parser, HOOKS, WHO_ALERTS)


def add_model(parser: ArgumentParser) -> None:
    """The model as an argument of its own, beside `--model`."""
    parser.add_argument(
        "served", nargs="?", metavar="MODEL", help="the model to serve, in place of --model"
    )


def server_settings(args: Namespace) -> Settings:
    """The server's settings.

    Raises:
        SettingsError: An unknown name, a bad value or an unreadable file.
    """
    given = given_flags(args, Settings)
    model = getattr(args, "served", None)
    if model is not None and given.setdefault("model", model) != model:
        raise UserError(f"two models are named: {model} and {given['model']}")
    warn_of_visible_key(given)
    return Settings.load(
        given, os.environ, Path.cwd(), others=declared(DashboardSettings), config=_config(args)
    )


def dashboard_settings(args: Namespace) -> DashboardSettings:
    """The dashboard's settings; raises as `server_settings`."""
    given = given_flags(args, DashboardSettings)
    return DashboardSettings.load(
        given, os.environ, Path.cwd(), others=declared(Settings), config=_config(args)
    )


def asking_key(args: Namespace) -> str:
    """The key with which a server is asked; empty if none is set.

    Raises:
        SettingsError: As `server_settings`.
    """
    return first_key(server_settings(args))


def _config(args: Namespace) -> str:
    return getattr(args, "config", None) or ""
