"""Where settings come from, which one wins, and what is refused."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.config.settings import Settings
from mlxdeck.server.tool_format_names import TOOL_FORMATS
from mlxdeck.settings.declaration import declared, documented, grouped
from mlxdeck.settings.errors import SettingsError, meant_by
from mlxdeck.settings.flags import add_flags, given_flags
from mlxdeck.settings.listing import file_text
from mlxdeck.tui.state.dashboard_settings import DashboardSettings


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A working folder without a file of settings."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def load(
    cwd: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    """Load with a home beside the working folder."""
    home = {"MLXDECK_HOME": str(cwd.parent / "home")}
    return Settings.load(flags or {}, home | dict(environ or {}), cwd)


def write_home_file(cwd: Path, content: str) -> Path:
    """Put a file of settings into the home that `load` uses."""
    path = cwd.parent / "home" / "mlxdeck.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_defaults(cwd: Path) -> None:
    """Without any source, the server listens on loopback and serves the built-in model."""
    settings = load(cwd)
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8081, "smollm2")
    assert settings == Settings(home=cwd.parent / "home")


def test_flags_win_over_the_environment_and_that_over_the_file(cwd: Path) -> None:
    """Each source fills in what the ones before it leave open."""
    (cwd / "mlxdeck.toml").write_text("port = 1\nmax_batch = 1\nmax_waiting = 1\n")
    environ = {"MLXDECK_PORT": "2", "MLXDECK_MAX_BATCH": "2"}
    settings = load(cwd, environ, {"port": "3"})
    assert (settings.port, settings.max_batch, settings.max_waiting) == (3, 2, 1)


def test_file_in_home_is_read_when_the_working_folder_has_none(cwd: Path) -> None:
    """The nearest file is the only one that counts."""
    write_home_file(cwd, "port = 1\nmax_batch = 1")
    assert load(cwd).port == 1
    (cwd / "mlxdeck.toml").write_text("port = 2")
    assert (load(cwd).port, load(cwd).max_batch) == (2, 16)


def test_unknown_key_in_a_file_names_file_key_and_neighbour(cwd: Path) -> None:
    """A typo says where it is and what was probably meant."""
    path = write_home_file(cwd, "max_waitng = 3")
    with pytest.raises(SettingsError, match="'max_waitng'.*did you mean 'max_waiting'") as e:
        load(cwd)
    assert str(path) in str(e.value)


@pytest.mark.parametrize("name", ["frontend", "colour", "MLXDECK_FOO", "api"])
def test_nothing_is_suggested_where_nothing_is_near(name: str) -> None:
    """A suggestion that has nothing to do with the name leads astray."""
    assert meant_by(name, declared(Settings)) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [("modle", "model"), ("--max-wating", "max_waiting"), ("MLXDECK_PROT", "port"),
     ("temp", "temperature"), ("Log-Levle", "log_level"), ("disk_cahce", "disk_cache")],
)  # fmt: skip
def test_slips_are_recognised(name: str, meant: str) -> None:
    """Swapped and missing letters, beginnings, and the other sources' way of writing."""
    assert meant_by(name, declared(Settings)) == meant


def test_settings_stand_under_headings() -> None:
    """Each under one, in every program."""
    for program in (Settings, DashboardSettings):
        found = grouped(program)
        assert sorted(name for names in found.values() for name in names) == sorted(
            declared(program)
        )
        assert all(found)


@pytest.mark.parametrize("active", [False, True])
def test_written_file_holds_the_defaults(cwd: Path, *, active: bool) -> None:
    """As comments, and also once every line counts."""
    text = file_text(Settings, DashboardSettings)
    if active:
        text = re.sub(r"(?m)^#(?=\S)(?!#)", "", text)
    write_home_file(cwd, text)
    environ, home = {"MLXDECK_HOME": str(cwd.parent / "home")}, cwd.parent / "home"
    server = Settings.load({}, environ, cwd, others=declared(DashboardSettings))
    dashboard = DashboardSettings.load({}, environ, cwd, others=declared(Settings))
    assert (server, dashboard) == (Settings(home=home), DashboardSettings(home=home))
    assert bool(server.given) is active


def test_unknown_variable_is_an_error(cwd: Path) -> None:
    """A misspelt variable is not silently ignored."""
    with pytest.raises(SettingsError, match=r"MLXDECK_PROT.*MLXDECK_PORT"):
        load(cwd, {"MLXDECK_PROT": "1"})


def test_unknown_flag_is_an_error(cwd: Path) -> None:
    """A caller that is no parser is checked too."""
    with pytest.raises(SettingsError, match=r"'prot'.*'port'"):
        load(cwd, flags={"prot": 1})


def test_other_variables_are_left_alone(cwd: Path) -> None:
    """Tests have variables of their own, and so has everybody else."""
    environ = {"MLXDECK_TEST_MODEL": "x", "PORT": "1", "XMLXDECK_PORT": "1"}
    assert load(cwd, environ).port == 8081


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("port", "99999", "at most 65535"),
        ("port", "http", "whole number"),
        ("port", 80.5, "whole number"),
        ("port", True, "whole number"),
        ("max_batch", "0", "at least 1"),
        ("step_budget_tokens", "-1", "at least 0"),
        ("top_p", "1.5", "at most 1"),
        ("temperature", "nan", "finite"),
        ("ping_s", "soon", "expected a number"),
        ("unload_after_s", "soon", "such as 90s, 30m, 12h or 7d"),
        ("small_model_share", "1", "at most 0.99"),
        ("capture", "all", "one of off, tools, full"),
        ("telemetry", "maybe", "true or false"),
        ("kv_8bit", "8", "true or false"),
        ("exact_cache_bytes", "2 elephants", "such as 4096, 512MB or 2GiB"),
        ("exact_cache_bytes", "-1", "such as 4096, 512MB or 2GiB"),
        ("exact_cache_bytes", True, "such as 4096, 512MB or 2GiB"),
        ("telemetry_max_bytes", "1KB", "at least 4096"),
        ("answer_max_age_s", "-1", "such as 90s, 30m, 12h or 7d"),
        ("answer_max_age_s", "2 weeks", "such as 90s, 30m, 12h or 7d"),
        ("host", "", "not be empty"),
        ("api_key", 17, "expected text, got a number"),
        ("api_key", " ", "must not be blank"),
        ("api_key", "one,,two", "must not be blank"),
        ("api_key", "one two", "must not hold blanks"),
        ("allowed_hosts", "*", "without ports or stars"),
        ("allowed_hosts", "mac.local, http://a.b", "without ports or stars"),
        ("stop_timeout_s", "-1", "at least 0"),
        ("request_timeout_s", "-1", "such as 90s, 30m, 12h or 7d"),
        ("model", {"name": "x"}, "expected text, got a table"),
        ("port", "9" * 5000, "expected a whole number, got '9{59}…$"),
        ("port", 10**400, "at most 65535, got 10{59}…$"),
        ("max_batch", 10**400, "at most 9.22337e\\+18, got 10{59}…$"),
        ("top_p", 10**400, "expected a finite number, got 10{59}…$"),
        ("exact_cache_bytes", "9" * 5000, "at most 9.22337e\\+18, got '9{59}…$"),
        ("exact_cache_bytes", 10**400, "at most 9.22337e\\+18, got 10{59}…$"),
        ("request_timeout_s", "9" * 5000, "expected a finite duration, got '9{59}…$"),
    ],
)
def test_bad_value_names_the_setting_and_the_reason(
    cwd: Path, name: str, raw: object, reason: str
) -> None:
    """What is refused says what would be accepted."""
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')}: .*{reason}"):
        load(cwd, flags={name: raw})


@pytest.mark.parametrize(
    ("raw", "n_bytes"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("512MB", 512_000_000),
        ("512 mb", 512_000_000),
        ("2GiB", 2 * 1024**3),
        ("1.5KiB", 1536),
        ("0", 0),
    ],
)
def test_sizes(cwd: Path, raw: object, n_bytes: int) -> None:
    """A size is a number of bytes or has a unit."""
    assert load(cwd, flags={"exact_cache_bytes": raw}).exact_cache_bytes == n_bytes


@pytest.mark.parametrize("name", ["loop_guard", "forced_spans"])
def test_what_is_on_is_switched_off_by_a_flag(cwd: Path, name: str) -> None:
    """It is on unless somebody says so."""
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    told = given_flags(parser.parse_args([f"--no-{name.replace('_', '-')}"]), Settings)
    assert getattr(load(cwd), name) and not getattr(load(cwd, flags=told), name)


@pytest.mark.parametrize(
    ("raw", "value_s"),
    [(90, 90), ("90", 90), ("1.5m", 90), ("12 H", 43_200), ("7d", 604_800), (0, 0)],
)
def test_durations(cwd: Path, raw: object, value_s: float) -> None:
    """A duration is a number of seconds or has a unit."""
    assert load(cwd, flags={"answer_max_age_s": raw}).answer_max_age_s == value_s


@pytest.mark.parametrize(
    ("raw", "value"), [("0", False), ("off", False), ("1", True), ("Yes", True)]
)
def test_telemetry_is_switched_by_a_variable(cwd: Path, raw: str, value: bool) -> None:
    """MLXDECK_TELEMETRY=0 turns telemetry off."""
    assert load(cwd, {"MLXDECK_TELEMETRY": raw}).telemetry is value


def test_empty_variable_resets_an_optional_setting(cwd: Path) -> None:
    """What a file sets can be taken back."""
    (cwd / "mlxdeck.toml").write_text("temperature = 0.5\ntop_k = 40")
    settings = load(cwd, {"MLXDECK_TEMPERATURE": ""})
    assert (settings.temperature, settings.top_k) == (None, 40)


@pytest.mark.parametrize(
    "content", ["port =", b"\xff\xfe", b"x = " + b"[" * 5_000], ids=["toml", "utf-8", "deep"]
)
def test_broken_file_is_named(cwd: Path, content: str | bytes) -> None:
    """A file that is no TOML is an error with its path, not a traceback."""
    path = cwd / "mlxdeck.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=str(path)):
        load(cwd)


def test_a_number_of_too_many_digits_is_told_in_words(cwd: Path) -> None:
    """Python's own are advice to programmers."""
    path = cwd / "mlxdeck.toml"
    path.write_text(f"port = {'9' * 5000}")
    with pytest.raises(SettingsError) as error:
        load(cwd)
    assert str(error.value) == f"{path}: a number has more than 4,300 digits"


def test_what_is_no_regular_file_is_not_waited_for(cwd: Path) -> None:
    """A pipe that nobody writes to would hold the start for ever."""
    os.mkfifo(cwd / "mlxdeck.toml")
    with pytest.raises(SettingsError, match="no regular file"):
        load(cwd)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.local", "0"])
def test_open_address_needs_a_key(cwd: Path, host: str) -> None:
    """Nobody serves a network without a key by accident."""
    with pytest.raises(SettingsError, match="MLXDECK_API_KEY"):
        load(cwd, flags={"host": host})
    assert load(cwd, {"MLXDECK_API_KEY": "k"}, {"host": host}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(cwd: Path, host: str) -> None:
    """On its own machine, a server is open."""
    assert load(cwd, flags={"host": host}).api_key == ""


@pytest.mark.parametrize(
    "url", ["redis://192.0.2.7:6379", "rediss://box.local", "redis://me@box/1"]
)
def test_a_redis_of_another_machine_needs_a_secret(cwd: Path, url: str) -> None:
    """Or its clients could forge answers; a password in the address is one."""
    with pytest.raises(SettingsError, match="MLXDECK_SHARED_CACHE_SECRET"):
        load(cwd, flags={"shared_cache": url})
    assert load(cwd, {"MLXDECK_SHARED_CACHE_SECRET": "s"}, {"shared_cache": url}).shared_cache
    for good in ("redis://127.0.0.1", "redis://:pass@box", "redis://box?password=x", "unix:///a"):
        assert load(cwd, flags={"shared_cache": good}).shared_cache == good


def test_key_is_not_shown() -> None:
    """A log line that holds the settings does not hold the key."""
    assert "hunter2" not in repr(Settings(api_key="hunter2", shared_cache_secret="hunter2"))


def test_settings_made_by_hand_are_checked() -> None:
    """There is no way around the checks, and none to change a value later."""
    with pytest.raises(SettingsError, match="port: must be at least 1"):
        Settings(port=0)
    with pytest.raises(SettingsError, match="API key"):
        dataclasses.replace(Settings(), host="0.0.0.0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_environment_carries_settings_to_another_process(cwd: Path) -> None:
    """What `to_environ` gives wins over a file, also where it says the default."""
    (cwd / "mlxdeck.toml").write_text("port = 1\ntemperature = 0.5\ntelemetry_dir = 'x'\n")
    settings = Settings(home=cwd.parent / "h", api_key="k", top_p=0.25, telemetry=False)
    assert Settings.load({}, settings.to_environ(), cwd) == settings


def test_folders(cwd: Path, own_home: Path) -> None:
    """Telemetry lies in the home unless it was sent elsewhere; nothing is made by asking."""
    assert load(cwd).telemetry_folder == cwd.parent / "home" / "telemetry"
    assert load(cwd, {"MLXDECK_TELEMETRY_DIR": "~/t"}).telemetry_folder == own_home / "t"
    settings = Settings.load({}, {}, cwd)
    assert settings.home.is_relative_to(own_home)
    assert not settings.home.exists()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8081"), ("::1", "http://[::1]:8081"),
     ("0.0.0.0", "http://127.0.0.1:8081"), ("::", "http://[::1]:8081")],
)  # fmt: skip
def test_url(host: str, url: str) -> None:
    """Clients on the same machine are sent to an address they can connect to."""
    assert Settings(host=host, api_key="k").url == url


def test_every_setting_has_a_flag_with_help(cwd: Path) -> None:
    """Defaults and texts are written once, below the field."""
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    shown = " ".join(parser.format_help().split())
    assert "--max-waiting N Most requests in the queue" in shown
    assert "(default: 256MiB)" in shown and "(default: 7d)" in shown
    assert "--engine" not in shown
    args = parser.parse_args(["--engine", "echo", "--no-telemetry", "--exact-cache-bytes", "1KiB"])
    settings = load(cwd, flags=given_flags(args, Settings))
    assert (settings.engine, settings.telemetry) == ("echo", False)
    assert settings.exact_cache_bytes == 1024
    assert (
        load(cwd, {"MLXDECK_TELEMETRY": "0"}, given_flags(parser.parse_args([]), Settings)).port
        == 8081
    )


def test_bodies_in_flight_are_a_size(cwd: Path) -> None:
    """As every setting of bytes; none at all would refuse every body."""
    settings = load(cwd, {"MLXDECK_MAX_BODY_BYTES_IN_FLIGHT": "64MiB"})
    assert settings.max_body_bytes_in_flight == 64 * 1024**2
    with pytest.raises(SettingsError, match="must be at least 1"):
        load(cwd, {"MLXDECK_MAX_BODY_BYTES_IN_FLIGHT": "0"})


def test_only_the_flags_that_a_command_needs() -> None:
    """A client command has the address, not the caches."""
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings, only=("host", "port"))
    assert "--max-batch" not in parser.format_help()
    assert given_flags(parser.parse_args(["--port", "1"]), Settings) == {"port": "1"}


def test_every_field_is_a_documented_setting() -> None:
    """A new setting cannot come without a text for its flag."""
    for program in (Settings, DashboardSettings):
        names = {each.name for each in dataclasses.fields(program)} - {"home", "file", "given"}
        assert {name for name, text in documented(program).items() if text} >= names
        assert declared(program).keys() == names


def test_every_tool_format_can_be_chosen() -> None:
    """The names are those of the registry."""
    assert set(TOOL_FORMATS) == set(FORMATS)


SHARED = """
port = 8090
telemetry_dir = "t"
alert_queue = 3
"""


def test_one_file_is_for_both_programs(cwd: Path) -> None:
    """Each takes its own settings and those that both have, and leaves the other's alone."""
    (cwd / "mlxdeck.toml").write_text(SHARED)
    environ = {"MLXDECK_ALERT_HIT_RATE": "0.5", "MLXDECK_MAX_BATCH": "2"}
    server = Settings.load({}, environ, cwd, others=declared(DashboardSettings))
    dashboard = DashboardSettings.load({}, environ, cwd, others=declared(Settings))
    assert (server.port, server.max_batch) == (8090, 2)
    assert (dashboard.alert_queue, dashboard.alert_hit_rate) == (3, 0.5)
    assert server.telemetry_folder == dashboard.telemetry_folder == Path("t")


def test_a_name_of_neither_program_is_refused_by_both(cwd: Path) -> None:
    """With the nearest name of either."""
    (cwd / "mlxdeck.toml").write_text("alert_queu = 3")
    with pytest.raises(SettingsError, match="did you mean 'alert_queue'"):
        Settings.load({}, {}, cwd, others=declared(DashboardSettings))
    with pytest.raises(SettingsError, match="did you mean 'alert_queue'"):
        DashboardSettings.load({}, {}, cwd, others=declared(Settings))
    with pytest.raises(SettingsError, match="MLXDECK_PROT.*MLXDECK_PORT"):
        DashboardSettings.load({}, {"MLXDECK_PROT": "1"}, cwd / "none", others=declared(Settings))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("alert_url", "http://example.com/x", "to another machine only https"),
        ("alert_url", "http://127.0.0.1.example.com/", "to another machine only https"),
        ("alert_url", "ftp://localhost/", "a URL that begins with"),
        ("alert_url", "https://me:word@example.com/", "without a user"),
        ("alert_exec", "say 'hello", "No closing quotation"),
        ("alert_exec", "  ", "names no program"),
    ],
)
def test_hooks_that_are_refused(cwd: Path, name: str, value: str, why: str) -> None:
    """With the setting's name, and without the address: it may hold a secret."""
    for flags, environ in (({name: value}, {}), ({}, {f"MLXDECK_{name.upper()}": value})):
        with pytest.raises(SettingsError, match=rf"(?i){name.replace('_', '.')}: .*{why}") as told:
            DashboardSettings.load(flags, environ, cwd)
        assert "example" not in str(told.value)


def test_a_file_that_lies_in_the_working_folder_sets_no_hooks(cwd: Path, tmp_path: Path) -> None:
    """It may be of a repository of others; one that was named, or lies in the home, is trusted."""
    home = tmp_path / "home"
    home.mkdir()
    environ = {"MLXDECK_HOME": str(home)}
    for name, value in (("alert_exec", "say hello"), ("alert_url", "https://example.com/a/")):
        line = f'{name} = "{value}"'
        (cwd / "mlxdeck.toml").write_text(line)
        with pytest.raises(SettingsError, match=f":1: {name}: not from a file in the working"):
            DashboardSettings.load({}, environ, cwd)
        named = DashboardSettings.load({}, environ, cwd, config=str(cwd / "mlxdeck.toml"))
        (home / "mlxdeck.toml").write_text(line)
        (cwd / "mlxdeck.toml").unlink()
        own = DashboardSettings.load({}, environ, cwd)
        assert getattr(named, name) == getattr(own, name) == value
        assert DashboardSettings.load({}, environ, home) == own


def test_a_bad_value_stops_only_its_own_program(cwd: Path) -> None:
    """A server's mistake is no reason to show no dashboard, nor the other way round."""
    (cwd / "mlxdeck.toml").write_text("port = 0\nalert_queue = -1")
    with pytest.raises(SettingsError, match="port: must be"):
        Settings.load({}, {}, cwd, others=declared(DashboardSettings))
    with pytest.raises(SettingsError, match="alert_queue: must be"):
        DashboardSettings.load({}, {}, cwd, others=declared(Settings))
