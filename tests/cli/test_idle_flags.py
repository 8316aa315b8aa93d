"""Flags that would change nothing are refused: each with a sentence that says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from mlxdeck.cli.main import COMMANDS, build_parser, main
from mlxdeck.cli.settings import ALERTS, HOOKS
from mlxdeck.server.ops import agent_process, agent_session
from mlxdeck.server.ops.agents import Endpoint
from mlxdeck.settings.sources import flag

RECORDING = str(Path(__file__).parents[1] / "data" / "v1.jsonl")
ALERTING = ("claude", "run", "up", "tui", "replay", "stats", "config")
"""Commands with a dashboard, or that watch; `config` shows all settings."""
NEEDED = {"service": ["status"]}


def offered() -> Iterator[tuple[str, str, bool]]:
    """Each flag of alerts of each command that knows it, and whether `--help` shows it."""
    for command in build_parser().subcommands():
        name = command.prog.split()[-1]
        for alert in ALERTS:
            if action := command._option_string_actions.get(flag(alert)):
                yield name, alert, action.help != "==SUPPRESS=="


def test_only_commands_that_alert_offer_alerts() -> None:
    """A replay draws thresholds, and tells nobody; a server's commands name who alerts."""
    found = list(offered())
    shown = {(name, alert) for name, alert, is_shown in found if is_shown}
    wanted = {(name, alert) for name in ALERTING for alert in ALERTS}
    assert shown == wanted - {("replay", alert) for alert in HOOKS}
    refusing = {name for name, _, is_shown in found if not is_shown}
    assert refusing == {"serve", "bench", "doctor", "service", "replay"}


@pytest.mark.parametrize(
    ("name", "alert"), [(name, alert) for name, alert, is_shown in offered() if not is_shown]
)
def test_others_refuse_alerts(name: str, alert: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With and without a value."""
    for words in ([flag(alert)], [f"{flag(alert)}=1"], [flag(alert), "1"]):
        with pytest.raises(SystemExit) as left:
            main([name, *NEEDED.get(name, []), *words])
        assert left.value.code == 2
        assert f"{flag(alert)} is for those who watch a server" in capsys.readouterr().err


IDLE = (
    (["claude", "--alert-queue", "3"], "--alert-queue: only the dashboard alerts"),
    (["run", "--alert-exec", "x", "--", "codex"], "--alert-exec: only the dashboard alerts"),
    (["up", "--alert-url", "http://127.0.0.1"], "--alert-url: without a terminal"),
    (["stats", "--alert-hit-rate", "0.5"], "--alert-hit-rate: alerts need --watch"),
    (["tui", RECORDING, "--telemetry-dir", "x"], "--telemetry-dir changes nothing with PATH"),
    (["report", RECORDING, "--telemetry-dir", "x"], "--telemetry-dir changes nothing with PATH"),
    (["why", RECORDING, "--telemetry-dir", "x"], "--telemetry-dir changes nothing with PATH"),
    (
        ["export", RECORDING, "--to", "x.csv", "--request", "req", "--since", "7d"],
        "--since changes nothing with --request",
    ),
    (["inspect", RECORDING, "req", "--where", "a"], "--filter changes nothing with REQUEST"),
    (["check", "http://127.0.0.1:1", "--port", "3"], "--port changes nothing with URL"),
    (["bench", "--url", "http://127.0.0.1:1", "--max-batch", "3"], "--max-batch changes nothing"),
    (["bench", "--url", "http://127.0.0.1:1", "smollm2"], "[MODEL] changes nothing with --url"),
    (["bench", "--against-api", "openai"], "--against-api changes nothing without --against"),
    (["parse", "--formats", "--cut"], "--cut changes nothing with --formats"),
    (["parse", "--formats", "--format", "x"], "--format changes nothing with --formats"),
    (["rm", "--yes"], "--yes changes nothing without a name"),
    (["config", "init", "--port", "3"], "--port changes nothing with init"),
    (["config", "show", "x"], "[FILE] changes nothing with show"),
    (["service", "uninstall", "--port", "3"], "--port changes nothing with uninstall"),
    (["service", "status", "--print"], "--print changes nothing with status"),
)


@pytest.mark.parametrize(("words", "why"), IDLE)
def test_what_changes_nothing_is_refused(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, before anything is read or started."""
    assert words[0] in COMMANDS
    assert main(words) == 2
    assert why in capsys.readouterr().err


def test_alerts_of_a_session_are_its_dashboards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which reads the same file of settings, wherever its terminal is."""
    asked: list[list[str]] = []
    server = Endpoint("http://127.0.0.1:1", "", "m", 0)
    monkeypatch.setattr(agent_session, "endpoint", lambda *_: nullcontext(server))
    monkeypatch.setattr(agent_session, "open_dashboard", lambda command, _: asked.append(command))
    monkeypatch.setattr(agent_process, "run_agent", lambda *_: 0)
    monkeypatch.chdir(tmp_path)
    Path("own.toml").touch()
    flags = ["--dashboard", "--alert-queue", "3", "--config", "own.toml", "--no-telemetry"]
    assert main(["run", *flags, "--", "true"]) == 0
    assert f"--config={tmp_path / 'own.toml'}" in asked[0] and "--alert-queue=3" in asked[0]
