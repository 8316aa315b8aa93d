"""`mlxdeck service`: installs a server for this user's session, and looks after what it wrote."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops.background import log_path, state
from mlxdeck.server.ops.service_unit import (
    LABEL,
    MARK,
    UNIT,
    ServiceUnit,
    launchd_plist,
    systemd_unit,
    variables_file,
)
from mlxdeck.settings.declaration import declared
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.sources import ENV_HOME, flag, variable

Say = Callable[[str], None]
SECRETS = "service.env"


@dataclass(frozen=True, slots=True)
class Manager:
    """What starts services on a platform."""

    path: Path
    """Of the unit."""
    text: Callable[[ServiceUnit], str]
    start: Sequence[str]
    stop: Sequence[str]
    """Commands for the user."""
    mark: str
    """What a unit of ours holds."""
    link: Path | None = None
    """What enabling the service leaves behind."""


def manager(platform: str, environ: Mapping[str, str]) -> Manager:
    """This platform's.

    Raises:
        UserError: It has none that is known here.
    """
    home = Path(environ.get("HOME") or Path.home())
    if platform == "darwin":
        path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        domain = f"gui/{os.getuid()}"
        start = [f"launchctl bootstrap {domain} {shlex.quote(str(path))}"]
        return Manager(path, launchd_plist, start, [f"launchctl bootout {domain}/{LABEL}"], LABEL)
    if platform == "linux":
        folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user"
        start = ["systemctl --user daemon-reload", f"systemctl --user enable --now {UNIT}"]
        stop = [f"systemctl --user stop {UNIT}", "systemctl --user daemon-reload"]
        link = folder / "default.target.wants" / UNIT
        return Manager(folder / UNIT, systemd_unit, start, stop, MARK, link)
    raise UserError(f"no service manager is known for {platform}")


def unit_of(settings: Settings, command: Sequence[str]) -> tuple[ServiceUnit, dict[str, str]]:
    """The service of the present settings, and the variables that must not stand in its unit.

    What flags and variables set is written down; a settings file is named, and read at each start.

    Raises:
        UserError: A secret or a path can't be written where a service manager would read it.
    """
    arguments, secrets = [*command], dict[str, str]()
    if settings.file:
        arguments += ["--config", str(settings.file.resolve())]
    for name, place in settings.given.items():
        if settings.file and place.startswith(str(settings.file)):
            continue
        setting, value = declared(Settings)[name], getattr(settings, name)
        text = "" if value is None else str(value)
        kind = setting.metadata["kind"]
        if not setting.repr or kind.is_table:
            secrets[variable(name)] = text
        elif isinstance(value, bool):
            arguments.append(flag(name if value else f"no_{name}"))
        else:
            is_path = kind.metavar in ("FILE", "FOLDER") or name == "model"
            is_path = is_path and value != setting.default
            arguments += [f"{flag(name)}={_absolute(text) if is_path else text}"]
    home = settings.home.resolve()
    folder = settings.file.resolve().parent if settings.file else home
    unit = ServiceUnit(
        arguments,
        {ENV_HOME: str(home)},
        home / SECRETS,
        folder,
        log_path(home),
        settings.stop_timeout_s,
    )
    _check(unit, secrets)
    return unit, secrets


def _absolute(text: str) -> str:
    """A name of a file for another working folder; anything else is as it was."""
    path = Path(text).expanduser()
    return str(path.resolve()) if text and path.exists() else text


def _check(unit: ServiceUnit, secrets: Mapping[str, str]) -> None:
    """Refuse what has no way of being written that all readers understand."""
    for text in (*unit.command, *map(str, (unit.secrets, unit.folder, unit.log))):
        if not text.isprintable():
            raise UserError(f"a service can't have control characters in {text!r}")
    for name, value in secrets.items():
        if "'" in value or not value.isprintable():
            # Not the value.
            raise UserError(
                f"{name} holds a quote or a control character: "
                "set it in mlxdeck.toml, which the service reads itself"
            )


def install(settings: Settings, command: Sequence[str], say: Say) -> int:
    """Write the unit, and the file of its secrets if there are any; say how to start it.

    Raises:
        UserError: There is a unit of somebody else, or it can't be written.
    """
    told = manager(sys.platform, os.environ)
    unit, secrets = unit_of(settings, command)
    _check_ours(told)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_secrets(unit.secrets, secrets, say)
        told.path.parent.mkdir(parents=True, exist_ok=True)
        _write(told.path, told.text(unit))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    say(f"wrote {told.path}")
    if settings.upstream or settings.backends:
        say(f"keys of other servers belong in {unit.secrets}, as NAME='value'")
    say("start it with:")
    for line in told.start:
        say(f"  {line}")
    if sys.platform == "linux":
        say('to keep it without a login: loginctl enable-linger "$USER"')
    return 0


def _keep_secrets(path: Path, secrets: Mapping[str, str], say: Say) -> None:
    """Replace ours in the file of secrets, which goes if nothing is left in it."""
    before = path.read_text() if path.exists() else ""
    if text := variables_file(before, secrets):
        _write(path, text)
        say(f"wrote {path}, which only you can read: {', '.join(secrets) or 'only lines of yours'}")
    elif before:
        path.unlink()
        say(f"removed {path}")


def preview(settings: Settings, command: Sequence[str], say: Say, note: Say) -> int:
    """Say what `install` would write, and write nothing."""
    unit, secrets = unit_of(settings, command)
    say(manager(sys.platform, os.environ).text(unit).rstrip("\n"))
    if secrets:
        note(f"{unit.secrets} would hold {', '.join(secrets)}")
    return 0


def uninstall(settings: Settings, say: Say) -> int:
    """Remove the unit and the file of its secrets; say how to stop what runs.

    Raises:
        UserError: The unit is somebody else's.
    """
    told = manager(sys.platform, os.environ)
    if not told.path.exists():
        say(f"no service is installed: there is no {told.path}")
        return 0
    _check_ours(told)
    for path in (told.path, told.link):
        if path and (path.exists() or path.is_symlink()):
            path.unlink()
            say(f"removed {path}")
    _keep_secrets(settings.home / SECRETS, {}, say)
    say("stop it with:")
    for line in told.stop:
        say(f"  {line}")
    return 0


def status(settings: Settings, command: Sequence[str], say: Say) -> int:
    """Say whether a service is installed, up to date and running; 0 if it is both there and up."""
    told = manager(sys.platform, os.environ)
    unit, _ = unit_of(settings, command)
    is_there, now = told.path.exists(), state(settings.url)
    if not is_there:
        say(f"not installed: there is no {told.path}")
    else:
        same = told.path.read_text() == told.text(unit)
        say(f"installed: {told.path}" + ("" if same else ", with other settings than the present"))
    say(f"a server runs on {settings.url}: {now}" if now else f"none runs on {settings.url}")
    return 0 if is_there and now else 1


def _check_ours(told: Manager) -> None:
    if told.path.exists() and told.mark not in told.path.read_text(errors="replace"):
        raise UserError(f"{told.path} was not written by mlxdeck; it stays as it is")


def _write(path: Path, text: str) -> None:
    """Write a file for this user alone, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
