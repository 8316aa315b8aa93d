"""Alerts on their way out: real commands, real servers, and what goes wrong on the way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.alerts.deliveries import (
    CommandDelivery,
    Delivery,
    DeliveryFailed,
    UrlDelivery,
    deliveries,
)
from mlxdeck.telemetry.alerts.hooks import MAX_TEXT, AlertHooks, body
from mlxdeck.telemetry.alerts.watch import Alert
from tests.telemetry.planted import planted

ALERT = Alert("queue", "queue", "4 requests wait, over 3", 7, 4, 3)
SHORT_S, LONG_S = 0.5, 30.0


def python(code: str, *arguments: object) -> str:
    """A command line that runs some Python."""
    return shlex.join([sys.executable, "-c", code, *map(str, arguments)])


COPY = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read() + b'\\n')"
HANG = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpgid(0))); time.sleep(60)"


@contextmanager
def hooks(*ways: Delivery, **options: int) -> Iterator[tuple[AlertHooks, list[str]]]:
    """Hooks that deliver all that waits at the end, and what they tell."""
    told: list[str] = []
    made = AlertHooks(ways, told.append, **options)
    yield made, told
    made.close(LONG_S)


class Listener:
    """A server on this machine that takes alerts."""

    def __init__(self, status: int = 200, location: str = "") -> None:
        self.got: list[tuple[str, bytes]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                listener.got.append((self.path, self.rfile.read(length)))
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something on another thread or in another process."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def test_a_command_and_a_server_get_the_same_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One JSON object each; a proxy is not asked for this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    file = tmp_path / "alerts"
    with Listener() as server:
        ways = deliveries(python(COPY, file), f"{server.url}/hook/?token=1")
        with hooks(*ways) as (made, told):
            made.fire(ALERT, 1.5, Path("a.jsonl"))
        assert told == [] and made.losses == ""
    (line,) = file.read_bytes().splitlines()
    assert server.got == [("/hook/?token=1", line)]
    assert json.loads(line) == {
        "kind": "threshold", "name": "queue", "text": "4 requests wait, over 3", "value": 4,
        "limit": 3, "when": "1970-01-01T00:00:01.500Z", "n_requests": 7, "file": "a.jsonl",
    }  # fmt: skip


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    """What a shell would act on is an argument like others."""
    words = ["$(touch x)", "; touch x", "a b", "`x`"]
    file = tmp_path / "arguments"
    code = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"
    CommandDelivery(python(code, file, *words)).deliver(b"{}")
    assert json.loads(file.read_text()) == words


def test_a_command_that_hangs_is_killed_and_the_next_alert_goes(tmp_path: Path) -> None:
    """The failure is told once, and counted each time."""
    file = tmp_path / "alerts"
    ways = CommandDelivery("sleep 60", SHORT_S), CommandDelivery(python(COPY, file))
    with hooks(*ways) as (made, told):
        made.fire(ALERT, 1.0, None)
        until(file.exists)
        made.fire(ALERT, 2.0, None)
    assert [json.loads(line)["when"][17:19] for line in file.read_bytes().splitlines()] == [
        "01", "02",
    ]  # fmt: skip
    assert told == ["alert command: no end after 0.5 s, killed"]
    assert made.losses == "2 alerts not delivered"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/none/such", "can't be started: No such file"),
        (python("raise SystemExit(3)"), "status 3"),
        (python("import os; os.kill(os.getpid(), 9)"), "status -9"),
        ("a\0b", "can't be started"),
    ],
)
def test_why_a_command_failed(command: str, why: str) -> None:
    """By its status, or because it never ran."""
    with pytest.raises(DeliveryFailed, match=why):
        CommandDelivery(command).deliver(b"{}")


@pytest.mark.parametrize("status", [302, 307, 400, 500])
def test_a_server_that_does_not_take_it_is_not_asked_again(status: int) -> None:
    """A redirect leads nowhere; the reason holds nothing of the address."""
    with Listener() as other, Listener(status, f"{other.url}/x") as server:
        with pytest.raises(DeliveryFailed, match=f"^it answered with status {status}$"):
            UrlDelivery(f"{server.url}/secret").deliver(b"{}")
        assert len(server.got) == 1 and other.got == []
    with pytest.raises(DeliveryFailed, match="refused"):
        UrlDelivery(f"{server.url}/secret").deliver(b"{}")


class Held:
    """A way out that is shut until a test opens it."""

    title = "held"

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.began, self.open = threading.Event(), threading.Event()

    def deliver(self, body: bytes) -> None:
        self.began.set()
        self.open.wait(LONG_S)
        self.got.append(json.loads(body))

    def stop(self) -> None:
        """Nothing runs."""


def test_a_full_queue_is_counted() -> None:
    """Who fires never waits; what had room is delivered in order."""
    way = Held()
    with hooks(way, max_waiting=2) as (made, told):
        made.fire(ALERT, 0.0, None)
        way.began.wait(LONG_S)
        for second in range(1, 6):
            made.fire(ALERT, float(second), None)
        assert made.n_failed == 3 and told == ["alerts: more than 2 wait to be delivered"]
        way.open.set()
        until(lambda: len(way.got) == 3)
    assert [each["when"][17:19] for each in way.got] == ["00", "01", "02"]


class Broken:
    """A way with a bug."""

    title = "broken"

    def __init__(self) -> None:
        self.n = 0

    def deliver(self, body: bytes) -> None:
        self.n += 1
        raise RuntimeError

    def stop(self) -> None:
        pass


def test_a_bug_of_a_way_ends_no_other_alert() -> None:
    """It is told once, and counted each time."""
    broken = Broken()
    with hooks(broken) as (made, told):
        made.fire(ALERT, 0.0, None)
        made.fire(ALERT, 0.0, None)
        until(lambda: made.n_failed == 2)
    assert broken.n == 2 and told == ["broken: RuntimeError, a bug of ours"]


def test_closing_ends_what_hangs(tmp_path: Path) -> None:
    """With the children of the command, and with what waits behind it."""
    group = tmp_path / "group"
    child = f"import subprocess; subprocess.run({shlex.split(python(HANG, group))!r})"
    made = AlertHooks([CommandDelivery(python(child), LONG_S)], print)
    for _ in range(3):
        made.fire(ALERT, 0.0, None)
    until(lambda: group.exists() and bool(group.read_text()))
    made.close(0.0)
    until(lambda: not made._thread.is_alive())
    until(lambda: is_gone(int(group.read_text())))


def is_gone(group: int) -> bool:
    """Whether a process group has no member that runs."""
    shown = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True)
    states = [line.split() for line in shown.stdout.splitlines()]
    return not any(int(pgid) == group and not stat.startswith("Z") for pgid, stat in states)


def test_a_text_holds_no_secret_and_no_controls() -> None:
    """Names in it are those of clients."""
    key = "sk-ant-api03-" + "a1B2" * 20
    alert = Alert("same_block", "finding", f"\x1b]0;x\x07 {key} " + "n" * 1000, 3)
    found = json.loads(body(alert, 0.0, None))
    assert len(found["text"]) == MAX_TEXT and "\x1b" not in found["text"]
    assert key not in found["text"] and found["kind"] == "finding"
    assert found["value"] is found["limit"] is found["file"] is None


def test_stats_tell_what_is_crossed_while_they_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first look, and once; findings as they appear."""
    stream, file = planted(tmp_path), tmp_path / "alerts"
    (tmp_path / "later").mkdir()
    later = planted(tmp_path / "later", "upstream_fails").read_bytes()
    before = stream.read_bytes()
    assert later.startswith(before)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            with stream.open("ab") as file_:
                file_.write(later[len(before) :])
        if len(looks) >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("mlxdeck.cli.stats.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("mlxdeck.telemetry.alerts.stream_alarm.REST", 0)
    flags = ["--alert-hit-rate", "1", "--alert-exec", python(COPY, file)]
    assert main(["stats", str(stream), "--json", "--watch", "1", *flags]) == 130
    told = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [each["name"] for each in told] == ["hit_rate", "upstream_fails"]
    assert {each["file"] for each in told} == {str(stream)}
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 4 and len(shown.err.splitlines()) == 2


def test_thresholds_without_a_watch_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A single look can't tell a crossing once."""
    assert main(["stats", "--alert-queue", "3"]) == 2
    assert "--alert-queue: alerts need --watch" in capsys.readouterr().err
