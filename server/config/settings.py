"""Every setting: its type, its default, how it is read and checked, and its meaning.

A value comes from the first source that has it: a flag, a `MLXDECK_*` variable, `mlxdeck.toml`
(in the working folder, else in `$MLXDECK_HOME`). An unknown name is an error in each source:
a misspelt setting must not be ignored silently. This module creates no folder, and reads nothing
before `load`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import ipaddress
import logging
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar, cast

import platformdirs

from mlxdeck.server.canonicalize import RULE_NAMES
from mlxdeck.server.config.setting_types import (
    Kind,
    address,
    choice,
    duration,
    host_names,
    keys,
    number,
    optional,
    size,
    subset,
    switch,
    text,
    whole,
)
from mlxdeck.server.tool_format_names import TOOL_FORMATS, plug_ins

log = logging.getLogger(__name__)

FILE_NAME = "mlxdeck.toml"
ENV_PREFIX = "MLXDECK_"
ENV_HOME = "MLXDECK_HOME"
ENV_TEST_PREFIX = "MLXDECK_TEST"
"""Variables that tests may set for themselves; no setting is called like that."""

T = TypeVar("T")


class UserError(Exception):
    """Base of errors that the user can fix. A command prints the text without a traceback."""


class SettingsError(UserError, ValueError):
    """A setting is unknown or has a bad value; the text names the source."""


def _setting(
    default: T, kind: Kind, *, secret: bool = False, hidden: bool = False, bare: str = ""
) -> T:
    """Declare a setting. A `hidden` one works, but `--help` doesn't show it.

    A flag without a value means `bare`, if that is set.
    """
    metadata = {"kind": kind, "hidden": hidden, "bare": bare}
    return field(default=default, repr=not secret, metadata=metadata)


def home_folder(environ: Mapping[str, str]) -> Path:
    """Folder of mlxdeck's files: `$MLXDECK_HOME`, else the platform's state folder."""
    given = environ.get(ENV_HOME, "")
    return Path(given).expanduser() if given else platformdirs.user_state_path("mlxdeck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. Every instance is checked, also one made without `load`."""

    host: str = _setting("127.0.0.1", text(empty=False))
    """Address to listen on; an address other than loopback needs an API key."""
    port: int = _setting(8081, whole(1, 65535))
    """Port to listen on."""
    model: str = _setting("smollm2", text(empty=False))
    """Model to serve: a Hugging Face id, a folder, a .gguf file, or the built-in smollm2."""
    api_key: str = _setting("", keys(), secret=True)
    """API key that clients must send, or several, separated by commas. Prefer the environment."""
    api_key_file: str = _setting("", text())
    """File with API keys, one a line."""
    allowed_hosts: str = _setting("", host_names())
    """More host names of this machine, separated by commas. Their web pages may send requests."""
    max_waiting: int = _setting(64, whole(0))
    """Most requests in the queue; a further request gets status 529."""
    max_batch: int = _setting(16, whole(1))
    """Most sequences in a batch."""
    prefill_chunk_tokens: int = _setting(512, whole(1))
    """Prompt tokens in one prefill step. Other requests wait during the step."""
    context_tokens: int = _setting(0, whole(0))
    """Length of the context window; 0 uses the model's. Only a guessed length can be raised."""
    max_output_tokens: int = _setting(0, whole(0))
    """Most tokens of an answer; 0 means the limits of the request and the context window."""
    temperature: float | None = _setting(None, optional(number(0, 5)))
    """Temperature of requests that set none; replaces the model's default."""
    top_p: float | None = _setting(None, optional(number(0, 1)))
    """Top-p of requests that set none; replaces the model's default."""
    top_k: int | None = _setting(None, optional(whole(0)))
    """Top-k of requests that set none; replaces the model's default."""
    exact_cache_entries: int = _setting(1000, whole(0))
    """Most answers in the exact cache, for identical requests; 0 turns this cache off."""
    exact_cache_bytes: int = _setting(256 * 1024**2, size())
    """Memory limit of the exact cache."""
    answer_max_age_s: float = _setting(7 * 86_400.0, duration())
    """Age limit of cached answers in every cache tier, as 90s, 30m, 12h or 7d; 0 for none."""
    prefix_cache_bytes: int = _setting(0, size())
    """Memory for KV states; 0 takes half of the memory that is free after the model is loaded."""
    max_kv_tokens: int = _setting(0, whole(0))
    """Most tokens that the KV cache keeps for attention; older tokens are dropped. 0 keeps all."""
    cache_policy: str = _setting("lru", choice("lru", "adaptive"))
    """Which KV states are evicted first: lru, or adaptive for those that save the least."""
    disk_cache: bool = _setting(True, switch())
    """Whether answers and KV states are kept on disk, to survive a restart."""
    disk_cache_bytes: int = _setting(0, size())
    """Disk limit of the caches; 0 takes a quarter of the free disk, at most 20 GiB."""
    shared_cache: str = _setting("", address("redis://", "rediss://", "unix://"), secret=True)
    """Redis server that shares answers between machines, as redis://HOST:PORT; empty for none."""
    shared_cache_timeout_s: float = _setting(0.05, number(0.001))
    """Most seconds that a lookup in the shared cache may add to a request."""
    shared_cache_secret: str = _setting("", text(), secret=True)
    """Secret that signs shared answers; empty uses the password in the address of the Redis."""
    warm: str = _setting("", text(), bare="recent")
    """System prompts to prefill at the start: recent ones, or a file with one request a line."""
    warm_prompts: int = _setting(3, whole(1))
    """Number of recent system prompts to prefill."""
    canonical_off: str = _setting("", subset(*RULE_NAMES))
    """Rules of the canonical form to turn off, separated by commas."""
    loop_guard: bool = _setting(True, switch())
    """Whether a repeating answer is ended, as its token limit would end it."""
    ping_s: float = _setting(5.0, number(0.05))
    """Seconds of silence after which a stream carries a ping."""
    stall_s: float = _setting(120.0, number(1))
    """Seconds without progress after which requests fail, and soon after that the process ends."""
    stop_timeout_s: float = _setting(20.0, number(0, 86_400))
    """Seconds that running requests get to finish after a signal to stop."""
    max_body_bytes: int = _setting(32 * 1024**2, size(1))
    """Largest request body."""
    max_body_bytes_in_flight: int = _setting(128 * 1024**2, size(1))
    """Memory limit of bodies that are being read; above it, a long body gets status 529."""
    telemetry: bool = _setting(True, switch())
    """Whether telemetry events are recorded."""
    telemetry_dir: str = _setting("", text())
    """Folder of telemetry files; empty uses the folder telemetry in $MLXDECK_HOME."""
    telemetry_max_bytes: int = _setting(64 * 1024**2, size(4096))
    """Length at which a telemetry file is closed and a new one is started."""
    telemetry_keep_files: int = _setting(16, whole(1))
    """Number of telemetry files to keep; the oldest files are removed."""
    capture: str = _setting("tools", choice("off", "tools", "full"))
    """Content in telemetry: off for none, tools for the arguments of tool calls, full for all."""
    telemetry_sample: float = _setting(1.0, number(0, 1))
    """Share of requests to record; requests that end in an error are always recorded."""
    telemetry_processors: str = _setting("", text())
    """Names of processors from other packages for telemetry events, separated by commas."""
    log_level: str = _setting("info", choice("debug", "info", "warning", "error"))
    """Lowest level of log messages."""
    tool_format: str = _setting("auto", choice("auto", *TOOL_FORMATS, more=plug_ins))
    """Format of the model's tool calls, or a plug-in's name; auto asks the chat template."""
    chat_template: str = _setting("", text())
    """File with a chat template that replaces the model's own."""
    inline_control_tokens: bool = _setting(False, switch())
    """Whether control tokens in texts are encoded as such, for models trained on such texts."""
    alert_latency_p95_s: float = _setting(0.0, number(0))
    """P95 latency above which the dashboard warns, in seconds; 0 for never."""
    alert_hit_rate: float = _setting(0.0, number(0, 1))
    """Share of prompt tokens from cache below which the dashboard warns; 0 for never."""
    alert_error_rate: float = _setting(0.0, number(0, 1))
    """Share of failed requests above which the dashboard warns; 0 for never."""
    alert_queue: int = _setting(0, whole(0))
    """Length of the queue above which the dashboard warns; 0 for never."""
    alert_memory_bytes: int = _setting(0, size())
    """Memory of the model above which the dashboard warns; 0 for never."""
    engine: str = _setting("mlx", choice("mlx", "echo"), hidden=True)
    """Engine that computes answers; echo repeats the prompt, for tests."""
    home: Path = field(default_factory=lambda: home_folder({}))
    """Folder of mlxdeck's files; only `$MLXDECK_HOME` sets it."""

    def __post_init__(self) -> None:
        for name, setting in _settings().items():
            # The dataclass is frozen for its users; reading also normalises, as "2GiB" to a number.
            object.__setattr__(self, name, _read(name, setting, getattr(self, name)))
        if not (self.api_key or self.api_key_file) and not is_loopback(self.host):
            raise SettingsError(
                f"host: other machines can reach {self.host}, so an API key is needed: "
                f"set {ENV_PREFIX}API_KEY, or listen on 127.0.0.1"
            )

    @property
    def hosts_allowed(self) -> frozenset[str]:
        """`allowed_hosts` as a set of names."""
        return frozenset(filter(None, self.allowed_hosts.split(",")))

    @property
    def telemetry_folder(self) -> Path:
        """Folder of telemetry files; it may not exist yet."""
        if self.telemetry_dir:
            return Path(self.telemetry_dir).expanduser()
        return self.home / "telemetry"

    @property
    def cache_folder(self) -> Path:
        """Folder of the disk caches; it may not exist yet."""
        return self.home / "cache"

    @property
    def models_folder(self) -> Path:
        """Folder of models that mlxdeck downloaded or converted."""
        return self.home / "models"

    @property
    def url(self) -> str:
        """URL of the server for clients on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{host}:{self.port}"

    @classmethod
    def load(cls, flags: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> Self:
        """Read the settings from all their sources.

        `flags` holds the values of the command line, by field name.

        Raises:
            SettingsError: An unknown name, a bad value or an unreadable file.
        """
        home = home_folder(environ)
        values: dict[str, object] = {}
        for source in (_from_file(cwd, home), _from_environ(environ), _from_flags(flags)):
            for where, name, raw in source:
                values[name] = _read(where, _settings()[name], raw)
        return cls(home=home, **values)  # type: ignore[arg-type]

    def to_environ(self) -> dict[str, str]:
        """Environment variables from which `load` makes the same settings in another process.

        Every setting is included, so that no file overrides a default chosen here.
        """
        values = {name: getattr(self, name) for name in _settings()}
        return {
            ENV_HOME: str(self.home),
            **{
                ENV_PREFIX + name.upper(): "" if value is None else str(value)
                for name, value in values.items()
            },
        }


Found = Iterator[tuple[str, str, object]]
"""One value of a source: its place (for messages), the setting's name, the raw value."""


def _from_file(cwd: Path, home: Path) -> Found:
    for path in (cwd / FILE_NAME, home / FILE_NAME):
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path}: {error}") from error
        for name, raw in content.items():
            yield f"{path}: {_known(name, str(path), _settings())}", name, raw
        return


def _from_environ(environ: Mapping[str, str]) -> Found:
    variables = {ENV_PREFIX + name.upper(): name for name in _settings()}
    for variable, raw in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable.startswith(ENV_TEST_PREFIX):
            continue
        if variable != ENV_HOME:
            yield variable, variables[_known(variable, "environment", variables)], raw


def _from_flags(flags: Mapping[str, object]) -> Found:
    for name, raw in flags.items():
        yield "--" + _known(name, "flags", _settings()).replace("_", "-"), name, raw


def _known(name: str, source: str, names: Iterable[str]) -> str:
    if name in (known := list(names)):
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    raise SettingsError(f"{source}: unknown setting {name!r}; did you mean {nearest!r}?")


def _settings() -> dict[str, dataclasses.Field[object]]:
    return {each.name: each for each in dataclasses.fields(Settings) if "kind" in each.metadata}


def _read(where: str, setting: dataclasses.Field[object], raw: object) -> object:
    kind: Kind = setting.metadata["kind"]
    try:
        return kind.read(raw)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Names other than localhost count as remote."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def add_flags(parser: argparse.ArgumentParser, only: Iterable[str] = ()) -> None:
    """Add a flag to `parser` for each setting, or for those in `only`. `given_flags` reads them.

    Defaults and texts come from `Settings`. Values stay text: `Settings.load` checks them.
    """
    wanted = set(only)
    documented = _docstrings()
    for name, setting in _settings().items():
        if wanted and name not in wanted:
            continue
        kind: Kind = setting.metadata["kind"]
        help_ = f"{documented[name]} {_shown_default(setting)}".rstrip().replace("%", "%%")
        if setting.metadata["hidden"]:
            help_ = argparse.SUPPRESS
        flag = "--" + name.replace("_", "-")
        if isinstance(setting.default, bool):
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=None, help=help_)
        else:
            bare = setting.metadata["bare"]
            nargs = "?" if bare else None
            parser.add_argument(
                flag, metavar=kind.metavar, help=help_, nargs=nargs, const=bare or None
            )


def given_flags(args: argparse.Namespace) -> dict[str, object]:
    """The settings from the command line, by field name."""
    given = vars(args)
    return {name: given[name] for name in _settings() if given.get(name) is not None}


def from_args(args: argparse.Namespace) -> Settings:
    """The settings of a command: its flags, this process's environment and working folder."""
    given = given_flags(args)
    if given.get("api_key"):
        log.warning(
            "--api-key: every user of this machine can read the key in the list of processes. "
            "Use %sAPI_KEY or --api-key-file instead.",
            ENV_PREFIX,
        )
    return Settings.load(given, os.environ, Path.cwd())


def _shown_default(setting: dataclasses.Field[object]) -> str:
    default = setting.default
    if default is None or default == "":
        return ""
    if setting.metadata["kind"].metavar == "SIZE" and isinstance(default, int) and default:
        return f"(default: {default // 1024**2}MiB)"
    if setting.metadata["kind"].metavar == "DURATION" and isinstance(default, float):
        return f"(default: {default / 86_400:g}d)"
    return f"(default: {'on' if default is True else default})"


def _docstrings() -> dict[str, str]:
    """The docstring below each field; Python itself doesn't keep it."""
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(Settings)).body[0]).body
    return {
        declared.target.id: inspect.cleandoc(text_.value.value)
        for declared, text_ in zip(body, body[1:], strict=False)
        if isinstance(declared, ast.AnnAssign)
        and isinstance(declared.target, ast.Name)
        and isinstance(text_, ast.Expr)
        and isinstance(text_.value, ast.Constant)
        and isinstance(text_.value.value, str)
    }
