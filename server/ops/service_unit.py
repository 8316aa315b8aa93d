"""A server as a service of the user's session: what systemd and launchd are told. Pure values.

https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html, "Command lines";
launchd.plist(5).
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.settings.sources import ENV_PREFIX

LABEL = "mlxdeck.serve"
"""launchd's name of the service."""
UNIT = "mlxdeck.service"
"""systemd's."""
MARK = "# Written by: mlxdeck service install"
WRITE_TIMEOUT_S = 30
"""For a server to write its data, once its requests have ended."""
RETRY_S = 30
_WITH_SECRETS = 'set -a; if [ -r "$0" ]; then . "$0"; fi; exec "$@"'
"""launchd reads no file of variables, a shell does."""


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """A server that a service manager starts, without its secrets."""

    command: Sequence[str]
    environ: Mapping[str, str]
    secrets: Path
    """File of more variables, as `NAME='value'`; it may be missing."""
    folder: Path
    """Where relative names of files begin."""
    log: Path
    """For launchd; systemd has its journal."""
    stop_timeout_s: float


def systemd_unit(of: ServiceUnit) -> str:
    """A unit of systemd's user manager."""
    program, *arguments = of.command
    # systemd takes no such program, however it is escaped.
    begin = (
        ["/usr/bin/env", _word(program)] if set(program) & set("\"'\\") else [_word(program, "%")]
    )
    command = " ".join([*begin, *map(_word, arguments)])
    environ = [f"Environment={_word(f'{name}={value}', '%')}" for name, value in of.environ.items()]
    return "\n".join(
        [
            MARK,
            "[Unit]",
            "Description=mlxdeck: a local model for coding agents",
            "StartLimitIntervalSec=600",
            "StartLimitBurst=5",
            "",
            "[Service]",
            f"ExecStart={command}",
            *environ,
            f"EnvironmentFile=-{_path(of.secrets)}",
            f"WorkingDirectory={_path(of.folder)}",
            "Restart=on-failure",
            "RestartSec=2",
            "# It could not start, or a setting is wrong: another start would not help.",
            "RestartPreventExitStatus=1 2",
            f"TimeoutStopSec={of.stop_timeout_s + WRITE_TIMEOUT_S:.0f}",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def launchd_plist(of: ServiceUnit) -> str:
    """A launch agent."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", _WITH_SECRETS, str(of.secrets), *of.command],
        "EnvironmentVariables": dict(of.environ),
        "WorkingDirectory": str(of.folder),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RETRY_S,
        "ExitTimeOut": round(of.stop_timeout_s + WRITE_TIMEOUT_S),
        # Otherwise macOS slows it down, as work that nobody waits for.
        "ProcessType": "Interactive",
        "StandardOutPath": str(of.log),
        "StandardErrorPath": str(of.log),
    }
    return plistlib.dumps(agent).decode()


def variables_file(before: str, secrets: Mapping[str, str]) -> str:
    """The file of secret variables, with the lines that are not ours as they were `before`.

    systemd and a shell read single quotes alike; no value holds one.
    """
    kept = [line for line in before.splitlines() if not line.strip().startswith(ENV_PREFIX)]
    return "".join(f"{line}\n" for line in [*kept, *(f"{k}='{v}'" for k, v in secrets.items())])


def _word(text: str, doubled: str = "%$") -> str:
    """A word of a command line: quoted, without specifiers and variables."""
    for each in doubled:
        text = text.replace(each, each * 2)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _path(path: Path) -> str:
    """A path that takes the rest of a line: nothing is quoted there."""
    return str(path).replace("%", "%%")
