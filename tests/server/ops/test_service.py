"""`mlxdeck service`: units that service managers read as they are meant, and no secrets in them."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.ops.service_unit import launchd_plist, systemd_unit, variables_file
from mlxdeck.server.ops.user_service import unit_of
from mlxdeck.settings.errors import UserError

ODD = 'odd %h $HOME "q" \\back é'
"""A name with all that systemd, a shell or XML would take for something else."""
SHOW = "import os, sys, json; print(json.dumps([sys.argv[1:], os.environ['MLXDECK_API_KEY']]))"


def loaded(home: Path, flags: Mapping[str, object] | None = None, **environ: str) -> Settings:
    """Settings from flags and variables, with a home."""
    variables = {f"MLXDECK_{name.upper()}": value for name, value in environ.items()}
    return Settings.load(flags or {}, {"MLXDECK_HOME": str(home), **variables}, home)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A home with an odd name, and a Python in it."""
    home = tmp_path / ODD
    home.mkdir()
    (home / "python").symlink_to(sys.executable)
    return home


def test_launchd_starts_what_was_meant(odd: Path) -> None:
    """Every word arrives as it is, and the secrets from the file of their own."""
    settings = loaded(odd, {"model": ODD, "disk_cache": "off"}, api_key="k-1")
    unit, secrets = unit_of(settings, [str(odd / "python"), "-c", SHOW])
    agent = plistlib.loads(launchd_plist(unit).encode())
    assert "k-1" not in launchd_plist(unit) and agent["RunAtLoad"] is True
    unit.secrets.write_text(variables_file("MINE=1\nMLXDECK_API_KEY=old\n", secrets))
    ran = subprocess.run(
        agent["ProgramArguments"], cwd=agent["WorkingDirectory"], capture_output=True, text=True,
        env=agent["EnvironmentVariables"], check=True,
    )  # fmt: skip
    assert json.loads(ran.stdout) == [[f"--model={ODD}", "--no-disk-cache"], "k-1"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_the_unit(odd: Path, tmp_path: Path) -> None:
    """Its own check finds nothing to say, whatever is in the paths."""
    (odd / "mlxdeck.toml").write_text("port = 8090")
    unit, _ = unit_of(loaded(odd, {"model": ODD}), [str(odd / "python"), "-c", SHOW])
    path = tmp_path / "mlxdeck.service"
    path.write_text(systemd_unit(unit))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=no", str(path)],
        capture_output=True, text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    said = [line for line in ran.stderr.splitlines() if "mlxdeck" in line or ODD in line]
    assert (ran.returncode, said) == (0, [])


def test_settings_of_the_file_stay_in_it(tmp_path: Path) -> None:
    """What flags and variables set is written down; the file is named, and read at each start."""
    file = tmp_path / "mlxdeck.toml"
    file.write_text('port = 8090\napi_key = "k-2"\n')
    unit, secrets = unit_of(loaded(tmp_path, {"max_batch": "2"}, log_level="debug"), ["serve"])
    assert unit.command == ["serve", "--config", str(file), "--log-level=debug", "--max-batch=2"]
    assert secrets == {} and unit.folder == tmp_path


def test_relative_names_of_files_stay_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service runs elsewhere; a name that is no file is a model's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "t.jinja").touch()
    told = {"model": "mine", "chat_template": "t.jinja"}
    unit, _ = unit_of(loaded(tmp_path, told), [])
    assert set(unit.command) == {f"--model={tmp_path}/mine", f"--chat-template={tmp_path}/t.jinja"}
    unit, _ = unit_of(loaded(tmp_path, {"model": "org/name"}), [])
    assert unit.command == ["--model=org/name"]


@pytest.mark.parametrize("environ", [{"api_key": "it's"}, {"chat_template": "a\nb"}])
def test_what_cannot_be_written_safely_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    """Without the secret in the message."""
    with pytest.raises(UserError) as refused:
        unit_of(loaded(tmp_path, {}, **environ), [])
    assert "it's" not in str(refused.value)


def test_install_status_uninstall(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written for this user alone, found again, and removed with all that was written."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MLXDECK_API_KEY", "k-3")
    unit = own_home / ".config" / "systemd" / "user" / "mlxdeck.service"
    secrets = own_home / "mlxdeck" / "service.env"
    assert main(["service", "install", "--print"]) == 0
    assert "ExecStart=" in capsys.readouterr().out and not unit.exists()
    assert main(["service", "install", "--port", "1"]) == 0
    shown = capsys.readouterr().out
    assert "systemctl --user enable --now mlxdeck.service" in shown and "k-3" not in shown
    assert "k-3" not in unit.read_text() and secrets.read_text() == "MLXDECK_API_KEY='k-3'\n"
    assert {path.stat().st_mode & 0o777 for path in (unit, secrets)} == {0o600}
    assert main(["service", "status", "--port", "1"]) == 1
    assert f"installed: {unit}\n" in capsys.readouterr().out
    assert main(["service", "uninstall"]) == 0
    assert not unit.exists() and not secrets.exists()


def test_a_unit_of_somebody_else_stays(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither replaced nor removed."""
    monkeypatch.setattr(sys, "platform", "darwin")
    path = own_home / "Library" / "LaunchAgents" / "mlxdeck.serve.plist"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert main(["service", "install"]) == main(["service", "uninstall"]) == 2
    assert "not written by mlxdeck" in capsys.readouterr().err and path.read_text() == "mine"
