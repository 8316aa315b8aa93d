"""A server in the background, for as long as this terminal needs one.

A server that already runs is used and left running; one that is started here is stopped at the end.
It is a separate process, so that neither a busy model nor a crash affects the terminal.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops.supervision import Supervised
from mlxdeck.settings.errors import UserError
from mlxdeck.settings.sources import ENV_PREFIX

POLL_S = 0.1
PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 30.0
"""Time for a server to write its data, once its requests have ended."""
TELL_AFTER_S = 1.0
AT_ONCE_S = 5.0
LEAVE_DASHBOARD = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?25h\x1b[?1049l"
"""No mouse, no focus, no pasting, a cursor, and the screen from before."""
MAX_LOG_BYTES = 4 * 1024**2

Say = Callable[[str], None]
"""Takes one line for the user."""


class StartFailed(UserError):
    """The server ended before it was ready; the text holds its last words."""


def log_path(home: Path) -> Path:
    """The log file of a server in the background."""
    return home / "server.log"


@contextmanager
def running_server(settings: Settings, command: Sequence[str], say: Say) -> Iterator[None]:
    """A server that is ready, at `settings.url`, until the block is left.

    `command` starts one in the foreground; the settings reach it through the environment, where no
    other user sees the key. Once it was ready, it is started again when a fault ends it. Signals
    that end a terminal's programs end the block too.

    Raises:
        StartFailed: It ended before it was ready.
    """
    if state(settings.url) is not None:
        say(f"using the server that runs on {settings.url}")
        wait_until_ready(settings.url)
        yield
        return
    with _signals_raise() as signals, _log(settings.home) as log:
        news = _News(Path(log.name))

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                env=environ(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl+C belongs to the dashboard, not to all that the terminal has started.
                start_new_session=True,
            )

        server: Supervised | None = None
        try:
            with signals.held_back():
                server = Supervised(start, partial(_note, log))
            # However long it takes: a first start may download the model.
            while not is_ready(settings.url, server.process):
                news.tell(say)
                time.sleep(POLL_S)
            news.tell(say)
            # The screen belongs to the dashboard by now; messages go to the log.
            server.keep()
            yield
        except StartFailed as failed:
            raise StartFailed(f"{failed}\n{news.last_words()}".rstrip()) from None
        finally:
            if server is not None:
                stop(server.end(), settings.stop_timeout_s + STOP_TIMEOUT_S, say)


def wait_until_ready(url: str) -> None:
    """Wait for a server that somebody else has started, however long it loads.

    Raises:
        StartFailed: It can't load, or has ended.
    """
    while not is_ready(url, None):
        time.sleep(POLL_S)


def state(url: str) -> str | None:
    """The state of the server at `url`, as `healthy`; None if no mlxdeck answers there."""
    body = health(url)
    return None if body is None else str(body["status"])


def trouble(body: dict[str, Any]) -> str:
    """Why an unhealthy server can't answer, by its `/health`."""
    if not body["model_loaded"]:
        return "could not load its model"
    return f"is unhealthy: {body.get('reason') or 'it does not say why'}"


def health(url: str) -> dict[str, Any] | None:
    """What the server at `url` says of itself; None if no mlxdeck answers there."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", "/health")
        body = json.loads(connection.getresponse().read())
        return body if {"model_loaded", "status"} <= set(body) else None
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        return None
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes], timeout_s: float, say: Say = lambda _: None) -> None:
    """End a server, kindly first; a signal that raises while it is waited for ends it at once."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(TELL_AFTER_S)
            return
        say("waiting for requests that are under way; Ctrl+C ends them")
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass
    except KeyboardInterrupt:
        # On a second signal, the server ends at once, and records that in telemetry.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(AT_ONCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def is_ready(url: str, process: subprocess.Popen[bytes] | None) -> bool:
    """Whether the server answers; `process` is None if it is not ours.

    Raises:
        StartFailed: It never will.
    """
    body = health(url)
    now = body and body["status"]
    if body and now == "unhealthy":
        raise StartFailed(f"the server on {url} {trouble(body)}")
    if process is not None and process.poll() is not None:
        raise StartFailed("the server did not start")
    if process is None and now is None:
        raise StartFailed(f"the server on {url} has ended")
    return now is not None and now != "loading"


class _News:
    """New text of a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = path.stat().st_size

    def tell(self, say: Say) -> None:
        """Pass on the lines that are new."""
        whole, newline, _ = self._since(self._told).rpartition(b"\n")
        self._told += len(whole) + len(newline)
        for line in _lines(whole):
            say(line)

    def last_words(self) -> str:
        """The end of the log, as far as it was not passed on."""
        return "\n".join(_lines(self._since(self._told))[-10:])

    def _since(self, offset: int) -> bytes:
        with self._path.open("rb") as log:
            log.seek(offset)
            return log.read()


def _lines(text: bytes) -> list[str]:
    """Lines for a person: where in the code something went wrong stays in the log."""
    lines = text.decode(errors="replace").splitlines()
    return [line for line in lines if not line.startswith(" ")]


def _note(log: IO[bytes], line: str) -> None:
    # It may have been closed meanwhile.
    with suppress(OSError, ValueError):
        log.write(f"{line}\n".encode())
        log.flush()


def environ(settings: Settings) -> dict[str, str]:
    """An environment that hands settings to another process, where no other user sees them."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    return inherited | settings.to_environ() | {"PYTHONUNBUFFERED": "1"}


@contextmanager
def _log(home: Path) -> Iterator[IO[bytes]]:
    path = log_path(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    with open(path, "ab", opener=private) as log:
        yield log


def _terminal() -> list[Any] | None:
    """The settings of this terminal, if it is one."""
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _restore(settings: list[Any] | None) -> None:
    """Put the terminal back as it was before a dashboard took it."""
    if settings is None:
        return
    with suppress(OSError, termios.error):
        os.write(1, LEAVE_DASHBOARD)
        termios.tcsetattr(0, termios.TCSANOW, settings)


class _Signals:
    """The signals that end a terminal's programs, as exceptions or as the end itself."""

    def __init__(self) -> None:
        self.end: Callable[[], None] | None = None
        """Done before the process ends, instead of an exception. A dashboard may swallow that."""
        self._is_held = False
        self._held: int | None = None

    def raise_(self, number: int, _: FrameType | None = None) -> None:
        """Handle one."""
        if self._is_held:
            self._held = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif self.end is not None:
            self.end()
            os._exit(128 + number)
        else:
            raise SystemExit(128 + number)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Raise what comes inside the block at its end: a process begun is never lost."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._held is not None:
            self.raise_(self._held)


@contextmanager
def _signals_raise() -> Iterator[_Signals]:
    """Let Ctrl+C, a closed terminal and a polite kill run the code that stops the server."""
    signals = _Signals()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.raise_) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
