"""The ways of an alert out of this process: a command, and a request to a URL."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from mlxdeck.telemetry.remote_url import is_loopback

TIMEOUT_S = 10.0


class DeliveryFailed(Exception):
    """An alert did not arrive; the text says why, and holds nothing of its address."""


class Delivery(Protocol):
    """A way out. Called by one thread alone, but for `stop`."""

    title: str

    def deliver(self, body: bytes) -> None:
        """Hand over a JSON object.

        Raises:
            DeliveryFailed: It was not taken.
        """

    def stop(self) -> None:
        """Leave nothing running; from any thread."""


class CommandDelivery:
    """Runs a program, without a shell, and writes the alert to its standard input."""

    title = "alert command"

    def __init__(self, command: str, timeout_s: float = TIMEOUT_S) -> None:
        program, *arguments = shlex.split(command)
        self._command = [str(Path(program).expanduser()), *arguments]
        self._timeout_s = timeout_s
        self._running: subprocess.Popen[bytes] | None = None

    def deliver(self, body: bytes) -> None:
        """Wait for the program's end; one that takes too long is killed with its children."""
        try:
            # What it prints would be written over the dashboard.
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DeliveryFailed(f"it can't be started: {reason}") from error
        with self._running as process:
            try:
                process.communicate(body, timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                self.stop()
                raise DeliveryFailed(f"no end after {self._timeout_s:g} s, killed") from None
        if process.returncode:
            raise DeliveryFailed(f"it ended with status {process.returncode}")

    def stop(self) -> None:
        """Kill what runs, with its process group."""
        if self._running and self._running.poll() is None:
            # macOS refuses to signal a group whose leader has just ended.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._running.pid, signal.SIGKILL)


class UrlDelivery:
    """Sends the alert by POST. Follows no redirects, and uses no proxy on this machine."""

    title = "alert URL"

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        is_here = is_loopback(urlsplit(url).hostname or "")
        self._opener = build_opener(_NoRedirects(), *([ProxyHandler({})] if is_here else []))

    def deliver(self, body: bytes) -> None:
        """Send it, and ask for a status from 200 to 299."""
        headers = {"Content-Type": "application/json", "User-Agent": "mlxdeck"}
        try:
            request = Request(self._url, body, headers, method="POST")
            with self._opener.open(request, timeout=self._timeout_s):
                return
        except HTTPError as error:
            error.close()
            raise DeliveryFailed(f"it answered with status {error.code}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryFailed(_reason(error)) from error

    def stop(self) -> None:
        """Nothing outlives this process."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """None follows: the new address was not judged."""


def _reason(error: Exception) -> str:
    """Why, without the address: it may hold a secret."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__


def deliveries(command: str, url: str) -> list[Delivery]:
    """What the settings `alert_exec` and `alert_url` ask for; empty ones for nothing."""
    found: list[Delivery] = []
    if command:
        found.append(CommandDelivery(command))
    if url:
        found.append(UrlDelivery(url))
    return found
