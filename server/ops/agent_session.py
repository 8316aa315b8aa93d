"""A session of an agent with a server: one that runs and fits, or one of its own."""

from __future__ import annotations

import http.client
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlxdeck.server.config.api_keys import first_key
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.lenient_json import loads
from mlxdeck.server.ops.agents import Endpoint
from mlxdeck.server.ops.background import (
    PROBE_TIMEOUT_S,
    running_server,
    state,
    wait_until_ready,
)
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.sources import flag

Say = Callable[[str], None]
"""Takes one line for the user."""


class AnotherServer(UserError):
    """A server runs at this address that isn't the wanted one."""


@contextmanager
def endpoint(settings: Settings, command: Sequence[str] | None, say: Say) -> Iterator[Endpoint]:
    """A server that is ready, and fits the settings. `command` starts one, unless it is None.

    Raises:
        AnotherServer: One that runs there has another model, or another home.
        StartFailed: It can't be started.
        UserError: None runs there, and there is no command.
    """
    runs = state(settings.url) is not None
    if not runs and command is None:
        raise UserError(f"no mlxdeck runs on {settings.url}; start one with: mlxdeck serve")
    if runs:
        wait_until_ready(settings.url)
        check_same(settings)
    with running_server(settings, command, say) if command else nullcontext():
        status = _status(settings)
        yield Endpoint(
            settings.url,
            first_key(settings),
            str(status.get("model", settings.model)),
            int(status.get("context_tokens") or 0),
            str(status.get("small_model") or ""),
            # One that runs has its own settings; the file of ours may not be open yet.
            bool(status.get("telemetry")) if runs else settings.telemetry,
        )


def _status(settings: Settings) -> dict[str, Any]:
    """The body of `/v1/status`.

    Raises:
        AnotherServer: It gives none to our key.
    """
    address, key = urlsplit(settings.url), first_key(settings)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with closing(
        http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=PROBE_TIMEOUT_S * 5
        )
    ) as connection:
        try:
            connection.request("GET", "/v1/status", headers=headers)
            answer = connection.getresponse()
            body = loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AnotherServer(f"the server on {settings.url} does not answer: {error}") from error
    if answer.status == 401:
        raise AnotherServer(
            f"the server on {settings.url} wants another API key: set MLXDECK_API_KEY"
        )
    if answer.status != 200 or not isinstance(body, dict):
        raise AnotherServer(f"the server on {settings.url} is no mlxdeck of this version")
    return body


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that somebody else has started."""

    recording: Path | None
    """The file that it writes; None if it has no telemetry."""
    differences: tuple[str, ...]
    """How it isn't as the settings say, each a sentence for the user."""


def found_server(settings: Settings) -> FoundServer | None:
    """A server that runs at this address and is ready, as it is; None if there is none.

    Raises:
        AnotherServer: It gives no status to our key.
        StartFailed: It can't load its model.
    """
    if state(settings.url) is None:
        return None
    wait_until_ready(settings.url)
    status = _status(settings)
    recording = Path(status["telemetry"]) if status.get("telemetry") else None
    found = [_other_model(settings, status)]
    limits = status.get("limits") or {}
    found += [
        f"it runs with {flag(name)} {limits[name]}, not {getattr(settings, name)}"
        for name in sorted(limits.keys() & settings.given.keys())
        if limits[name] != getattr(settings, name)
    ]
    if recording and recording.parent != settings.telemetry_folder.resolve():
        found.append(f"it records in {recording.parent}")
    return FoundServer(recording, tuple(filter(None, found)))


def count_running(settings: Settings) -> int:
    """How many requests the server has; 0 if it doesn't say."""
    try:
        status = _status(settings)
        found = (status.get("active") or 0) + (status.get("queued") or 0)
        return max(int(found), len(status.get("requests") or ()))
    except (AnotherServer, TypeError, ValueError):
        return 0


def _other_model(settings: Settings, status: dict[str, Any]) -> str:
    """Empty if it is the wanted one, or none was wanted."""
    wanted = settings.model
    if "model" not in settings.given or wanted in (status.get("asked_model"), status.get("model")):
        return ""
    return f"it serves {status.get('model')}, not {wanted}"


def check_same(settings: Settings) -> None:
    """Refuse a server that runs, and would serve something else than the settings say.

    Raises:
        AnotherServer: It would.
    """
    status = _status(settings)
    if other := _other_model(settings, status):
        raise AnotherServer(
            f"the server on {settings.url}: {other}. Stop it, or choose another port with --port"
        )
    recording = status.get("telemetry")
    if recording and Path(recording).parent != settings.telemetry_folder.resolve():
        raise AnotherServer(
            f"the server on {settings.url} has another home: it records in "
            f"{Path(recording).parent}, not in {settings.telemetry_folder}. "
            "Choose another port with --port, or the same MLXDECK_HOME"
        )


def open_dashboard(command: Sequence[str], say: Say) -> None:
    """Open the dashboard beside this terminal's program, or say how."""
    shown = shlex.join(command)
    if os.environ.get("TMUX"):
        split = ["tmux", "split-window", "-d", "-h", shown]
        with suppress(OSError):
            if subprocess.run(split, check=False, capture_output=True).returncode == 0:
                return
    say(f"the dashboard, in another terminal: {shown}")
