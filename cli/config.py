"""Show all settings and their sources, or write a settings file. Secrets are masked."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlxdeck.cli.settings import (
    add_all_flags,
    dashboard_settings,
    refuse_idle,
    refuse_settings,
    server_settings,
)
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.program import home_folder
from mlxdeck.settings.sources import ENV_CONFIG, FILE_NAME
from mlxdeck.tui.state.dashboard_settings import DashboardSettings

EXAMPLE = "mlxdeck config init"
ACTIONS = ("show", "init")


def add(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        default="show",
        choices=ACTIONS,
        metavar="ACTION",
        help="show (the default), or init",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="for init: file or folder to write to"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_all_flags(parser)


def run(args: Namespace) -> int:
    if args.action == "init":
        refuse_settings(args, "with init")
        refuse_idle(args, "with init", "json")
        return _init(args)
    refuse_idle(args, "with show", "file")
    return _show(args)


def _show(args: Namespace) -> int:
    from mlxdeck.settings.listing import rows
    from mlxdeck.telemetry.control_characters import CONTROLS, shown_json
    from mlxdeck.telemetry.redact import redacted_text, redacted_value

    server, dashboard = server_settings(args), dashboard_settings(args)
    found = list(rows(server, dashboard))
    head = {"home": str(server.home), "file": str(server.file) if server.file else None}
    if args.json:
        told = {
            each.name: {"value": redacted_value(each.value), "source": each.source,
                        "place": each.place, "group": each.group}
            for each in found
        }  # fmt: skip
        print(shown_json({**head, "settings": told}, indent=2))
        return 0
    for name, value in head.items():
        print(f"{name}: {value or 'none'}")
    width, group = max(len(each.name) for each in found), ""
    for each in found:
        if each.group != group:
            group = each.group
            print(f"\n{group}")
        value = redacted_text(each.shown).translate(CONTROLS)
        print(f"  {each.name:<{width}}  {value or '-':<24}  {each.place}")
    return 0


def _init(args: Namespace) -> int:
    import os

    from mlxdeck.settings.listing import write_file

    named = args.file or args.config or os.environ.get(ENV_CONFIG)
    path = Path(named).expanduser() if named else home_folder(os.environ) / FILE_NAME
    path = path / FILE_NAME if path.is_dir() else path
    try:
        write_file(path, Settings, DashboardSettings)
    except FileExistsError:
        raise UserError(f"{path} exists already; it stays as it is") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    print(f"wrote {path}; every line in it is a comment that shows a default")
    return 0
