"""`mlxdeck bench`: starts or finds the servers, measures them, and prints a table and JSON."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TypeVar, cast

from mlxdeck.server.bench.bench_client import BenchClient, NotMeasured
from mlxdeck.server.bench.figures import GROUPS, Say
from mlxdeck.server.bench.measures import Bench, BenchTarget, pace_of
from mlxdeck.server.bench.own_server import BenchServer, own_server
from mlxdeck.server.bench.report import as_line, lines, report
from mlxdeck.server.bench.sizes import sizes
from mlxdeck.server.bench.wire import PATHS, ApiName
from mlxdeck.server.config.api_keys import first_key
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.lifecycle.interrupts import handled
from mlxdeck.settings.errors import UserError

T = TypeVar("T")
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the command line asks for."""

    url: str = ""
    """A server that runs, in place of one of our own."""
    against: Sequence[str] = ()
    """Other servers, measured beside it."""
    against_model: str = ""
    """What they are asked for; empty for the first model that each lists."""
    against_api: str = "auto"
    against_key_env: str = ""
    only: Sequence[str] = ()
    quick: bool = False
    as_json: bool = False

    def check(self) -> None:
        """Refuse what makes no sense, before anything starts.

        Raises:
            UserError: There is no such group, no such API, or no such key.
        """
        if unknown := [each for each in self.only if each not in GROUPS]:
            raise UserError(f"--only: there is no {unknown[0]!r}, only {', '.join(GROUPS)}")
        if self.against_api not in ("auto", *PATHS):
            raise UserError(f"--against-api: expected auto, {' or '.join(PATHS)}")
        if self.against_key_env and not os.environ.get(self.against_key_env):
            raise UserError(f"--against-key-env: {self.against_key_env} is not set")


def run(
    settings: Settings, options: BenchOptions, command: Sequence[str], say: Say, progress: Say
) -> int:
    """Measure and print; `command` starts a server in the foreground. For the main thread.

    Raises:
        UserError: An option makes no sense, or a server can't be started or reached.
    """
    options.check()
    began_s, name = time.monotonic(), secrets.token_hex(3)

    def told(line: str) -> None:
        progress(f"[{time.monotonic() - began_s:4.0f} s] {line}")

    with handled(dict.fromkeys(_ASKED, _leave)), ExitStack() as stack:
        targets = [_first(settings, options, command, stack, told)]
        targets += _others(options, [targets[0].name])
        first = targets[0].client
        window = int(first.status().get("context_tokens") or 0)
        pace = _reached(partial(pace_of, first, name), targets[0].name)
        chosen = sizes(pace, window, quick=options.quick)
        groups = [each for each in GROUPS if not options.only or each in options.only]
        Bench(targets, chosen, name, told).measure(groups)
        own = None if options.url else settings
        found = report(targets, chosen, quick=options.quick, settings=own)
        told("done")
    for line in [as_line(found)] if options.as_json else lines(found, targets):
        say(line)
    return int(not all(each.measured.samples for each in targets))


def _leave(number: int, _: FrameType | None) -> None:
    """Run the code that stops servers and removes their folder; a second signal changes nothing."""
    for each in _ASKED:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _first(
    settings: Settings, options: BenchOptions, command: Sequence[str], stack: ExitStack, told: Say
) -> BenchTarget:
    if options.url:
        client = _reached(partial(BenchClient, options.url, key=first_key(settings)), options.url)
        return BenchTarget(client.name, client)
    told(f"starting a server with {settings.model}")
    restart = partial(_started, stack.enter_context(own_server(settings, command, told)))
    return BenchTarget("mlxdeck", restart(), restart)


def _started(server: BenchServer) -> BenchClient:
    server.start()
    # Its telemetry isn't the user's, and writing it is a part of what is measured.
    return BenchClient(server.url, recorded=True)


def _others(options: BenchOptions, taken: list[str]) -> list[BenchTarget]:
    key = os.environ.get(options.against_key_env, "") if options.against_key_env else ""
    api = None if options.against_api == "auto" else cast("ApiName", options.against_api)
    found = []
    for url in options.against:
        ask = partial(BenchClient, url, key=key, model=options.against_model, api=api)
        client = _reached(ask, url)
        name = client.name if client.name not in taken else f"{client.name} {len(taken)}"
        taken.append(name)
        found.append(BenchTarget(name, client))
    return found


def _reached(ask: Callable[[], T], name: str) -> T:
    try:
        return ask()
    except NotMeasured as reason:
        raise UserError(f"{name}: {reason}") from reason
