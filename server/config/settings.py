"""The server's settings: type, default, check and meaning of each."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mlxdeck.server.canonicalize import RULE_NAMES
from mlxdeck.server.config.backends import BackendTable, backends
from mlxdeck.server.request_facts import FALLBACK_REASONS
from mlxdeck.server.tool_format_names import TOOL_FORMATS, plug_ins
from mlxdeck.settings.declaration import setting
from mlxdeck.settings.errors import SettingsError
from mlxdeck.settings.program import ProgramSettings
from mlxdeck.settings.setting_types import (
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
    variable_name,
    whole,
)
from mlxdeck.settings.sources import ENV_PREFIX
from mlxdeck.settings.tables import NamedValues, mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProgramSettings):
    """All settings of a process. Every instance is checked, also one made without `load`."""

    host: str = setting("127.0.0.1", text(empty=False), group="Network")
    """Address to listen on; an address other than loopback needs an API key."""
    port: int = setting(8081, whole(1, 65535))
    """Port to listen on."""
    model: str = setting("smollm2", text(empty=False), group="Model")
    """Model to serve: a Hugging Face id, a folder, a .gguf file, or the built-in smollm2."""
    served_model_name: str = setting("", text())
    """Name of this model for clients; empty takes its own."""
    upstream: str = setting("", text(), group="Another server")
    """Server that answers instead of a model here: lmstudio, ollama, mlx_lm, openai, anthropic or
    a URL."""
    upstream_url: str = setting("", address("http://", "https://"))
    """URL of the upstream, if it isn't the usual one of lmstudio, ollama or mlx_lm."""
    upstream_model: str = setting("", text())
    """Model that the upstream is asked for; empty passes on the client's name of the model."""
    upstream_dialect: str = setting("auto", choice("auto", "anthropic", "openai"))
    """API of the upstream; auto asks it."""
    upstream_key_env: str = setting("", variable_name())
    """Name of the environment variable with the upstream's API key; a preset has its own."""
    upstream_timeout_s: float = setting(600.0, number(1))
    """Seconds without a byte from the upstream after which a request fails."""
    upstream_canonical: bool = setting(False, switch())
    """Whether rules of the canonical form are applied to bodies for the upstream."""
    upstream_shares_answers: bool = setting(False, switch())
    """Whether clients with different API keys get the same cached answers of the upstream."""
    backends: NamedValues[BackendTable | str] = setting(
        NamedValues(), backends(), group="Several backends"
    )
    """Backends of this server, each a table `[backends.NAME]` in mlxdeck.toml."""
    backend: str = setting("", text())
    """Backend that answers by default, as NAME or NAME/MODEL; local is the model of --model."""
    aliases: NamedValues[str] = setting(NamedValues(), mapping(text(empty=False)))
    """Names of models, perhaps with stars, and the NAME or NAME/MODEL that each stands for."""
    small_model: str = setting("", text())
    """Second model of this machine, for a client's small requests; as for --model."""
    small_model_share: float = setting(0.2, number(0.01, 0.99))
    """Its share of the memory for KV states."""
    small_backend: str = setting("", text())
    """Backend for a client's small requests, as NAME or NAME/MODEL; empty for the usual one."""
    small_models: str = setting("*haiku*", text())
    """Models of such requests, perhaps with stars, separated by commas."""
    fallback: str = setting("", text())
    """Backend that takes over if the usual one can't answer, as NAME or NAME/MODEL."""
    fallback_on: str = setting("window,unreadable,down,loading", subset(*FALLBACK_REASONS))
    """When it takes over, separated by commas: window, unreadable, down, loading, error, busy."""
    fallback_wait_s: float = setting(10.0, number(0))
    """Seconds that a request waits for a model that is loading, before the fallback takes over."""
    api_key: str = setting("", keys(), secret=True, group="Network")
    """API key that clients must send, or several, separated by commas. Prefer the environment."""
    api_key_file: str = setting("", text(metavar="FILE"))
    """File with API keys, one a line."""
    allowed_hosts: str = setting("", host_names())
    """More host names of this machine, separated by commas. Their web pages may send requests."""
    max_waiting: int = setting(64, whole(0), group="Requests")
    """Most requests in the queue; a further request gets status 529."""
    max_batch: int = setting(16, whole(1))
    """Most sequences in a batch."""
    request_timeout_s: float = setting(0.0, duration())
    """Time limit of a request, waiting included, as 10m; 0 for none. Then it ends in an error."""
    prefill_chunk_tokens: int = setting(512, whole(1))
    """Prompt tokens in one prefill step, if no other request waits or is answered."""
    step_budget_tokens: int = setting(0, whole(0))
    """Prompt tokens in one prefill step beside other requests; 0 chooses by the model's speed."""
    prompt_lookup: bool = setting(True, switch())
    """Whether answers that repeat the conversation are written several tokens a pass."""
    draft_model: str = setting("", text(metavar="MODEL"))
    """Small model of the same family that guesses what the model writes; empty for none."""
    forced_spans: bool = setting(True, switch())
    """Whether what a grammar leaves no choice about is written in one pass, as keys of a call."""
    context_tokens: int = setting(0, whole(0), group="Model")
    """Length of the context window; 0 uses the model's. Only a guessed length can be raised."""
    max_output_tokens: int = setting(0, whole(0), aliases=("--max-tokens",))
    """Most tokens of an answer; 0 means the limits of the request and the context window."""
    temperature: float | None = setting(None, optional(number(0, 5)))
    """Temperature of requests that set none; replaces the model's default."""
    top_p: float | None = setting(None, optional(number(0, 1)))
    """Top-p of requests that set none; replaces the model's default."""
    top_k: int | None = setting(None, optional(whole(0)))
    """Top-k of requests that set none; replaces the model's default."""
    unload_after_s: float = setting(0.0, duration())
    """Time without a request for the model until it is unloaded, as 30m; 0 keeps it loaded."""
    exact_cache_entries: int = setting(1000, whole(0), group="Caches")
    """Most answers in the exact cache, for identical requests; 0 turns this cache off."""
    exact_cache_bytes: int = setting(256 * 1024**2, size())
    """Memory limit of the exact cache."""
    answer_max_age_s: float = setting(7 * 86_400.0, duration())
    """Age limit of cached answers in every cache tier, as 90s, 30m, 12h or 7d; 0 for none."""
    stored_responses: int = setting(1000, whole(0))
    """Most responses to keep for `previous_response_id`; 0 keeps none."""
    stored_responses_bytes: int = setting(64 * 1024**2, size())
    """Memory limit of these responses."""
    prefix_cache_bytes: int = setting(0, size())
    """Memory for KV states; 0 takes half of the memory that is free after the model is loaded."""
    max_kv_tokens: int = setting(0, whole(0))
    """Most tokens that the KV cache keeps for attention; older tokens are dropped. 0 keeps all."""
    kv_8bit: bool = setting(False, switch())
    """Whether KV states lie in 8 bits once they are quiet: half the memory; answers may differ."""
    cache_policy: str = setting("lru", choice("lru", "adaptive"))
    """Which KV states are evicted first: lru, or adaptive for those that save the least."""
    disk_cache: bool = setting(True, switch())
    """Whether answers and KV states are kept on disk, to survive a restart."""
    disk_cache_bytes: int = setting(0, size())
    """Disk limit of the caches; 0 takes a quarter of the free disk, at most 20 GiB."""
    shared_cache: str = setting(
        "", address("redis://", "rediss://", "unix://", query=True), secret=True
    )
    """Redis server that shares answers between machines, as redis://HOST:PORT; empty for none."""
    shared_cache_timeout_s: float = setting(0.05, number(0.001))
    """Most seconds that a lookup in the shared cache may add to a request."""
    shared_cache_secret: str = setting("", text(), secret=True)
    """Secret that signs shared answers; empty uses the password in the address of the Redis."""
    warm: str = setting("", text(metavar="FILE"), bare="recent")
    """System prompts to prefill at the start: recent ones, or a file with one request a line."""
    warm_prompts: int = setting(3, whole(1))
    """Number of recent system prompts to prefill."""
    canonical_off: str = setting("", subset(*RULE_NAMES))
    """Rules of the canonical form to turn off, separated by commas."""
    loop_guard: bool = setting(True, switch(), group="Requests")
    """Whether a repeating answer is ended, as its token limit would end it."""
    ping_s: float = setting(5.0, number(0.05))
    """Seconds of silence after which a stream carries a ping."""
    stall_s: float = setting(120.0, number(1))
    """Seconds without progress after which requests fail, and soon after that the process ends."""
    stop_timeout_s: float = setting(20.0, number(0, 86_400))
    """Seconds that running requests get to finish after a signal to stop."""
    max_body_bytes: int = setting(32 * 1024**2, size(1))
    """Largest request body."""
    max_body_bytes_in_flight: int = setting(128 * 1024**2, size(1))
    """Memory limit of bodies that are being read; above it, a long body gets status 529."""
    dialects: str = setting("", text(), group="Requests")
    """Names of APIs from other packages that are served too, separated by commas."""
    telemetry: bool = setting(True, switch(), group="Telemetry")
    """Whether telemetry events are recorded."""
    telemetry_max_bytes: int = setting(64 * 1024**2, size(4096))
    """Length at which a telemetry file is closed and a new one is started."""
    telemetry_keep_files: int = setting(16, whole(1))
    """Number of telemetry files to keep; the oldest files are removed."""
    capture: str = setting("tools", choice("off", "tools", "full"))
    """Content in telemetry: off for none, tools for tool calls and failures, full for all."""
    telemetry_sample: float = setting(1.0, number(0, 1))
    """Share of requests to record; requests that end in an error are always recorded."""
    telemetry_processors: str = setting("", text())
    """Names of processors from other packages for telemetry events, separated by commas."""
    log_level: str = setting(
        "info", choice("trace", "debug", "info", "warning", "error"), group="Logs"
    )
    """Lowest level of log messages. At debug, each request has a line a stage; trace adds the
    model's own text."""
    log_format: str = setting("text", choice("text", "json"))
    """Form of log messages."""
    tool_format: str = setting("auto", choice("auto", *TOOL_FORMATS, more=plug_ins), group="Model")
    """Format of the model's tool calls, or a plug-in's name; auto asks the chat template."""
    chat_template: str = setting("", text(metavar="FILE"))
    """File with a chat template that replaces the model's own."""
    inline_control_tokens: bool = setting(False, switch())
    """Whether control tokens in texts are encoded as such, for models trained on such texts."""
    engine: str = setting("mlx", choice("mlx", "echo"), hidden=True)
    """Engine that computes answers; echo repeats the prompt, for tests."""

    def __post_init__(self) -> None:
        ProgramSettings.__post_init__(self)
        if not self.shared_cache_secret and (host := _open_redis(self.shared_cache)):
            raise SettingsError(
                f"shared_cache: every client of the Redis at {host} could forge answers, so a "
                f"secret is needed: set {ENV_PREFIX}SHARED_CACHE_SECRET on all machines"
            )
        if not (self.api_key or self.api_key_file) and not is_loopback(self.host):
            raise SettingsError(
                f"host: other machines can reach {self.host}, so an API key is needed: "
                f"set {ENV_PREFIX}API_KEY, or listen on 127.0.0.1"
            )

    @property
    def of_small_model(self) -> Settings:
        """The same for the second model, without what is meant for the first alone."""
        return replace(
            self,
            model=self.small_model,
            small_model="",
            # It guesses for the first model's tokens.
            draft_model="",
            served_model_name="",
            context_tokens=0,
            chat_template="",
            tool_format="auto",
        )

    @property
    def hosts_allowed(self) -> frozenset[str]:
        """`allowed_hosts` as a set of names."""
        return frozenset(filter(None, self.allowed_hosts.split(",")))

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


def _open_redis(url: str) -> str:
    """The host of a Redis on another machine without a password in its address; else empty."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""  # Opening the cache says what is wrong.
    host, has_password = parts.hostname or "", parts.password or "password=" in parts.query
    return "" if not host or is_loopback(host) or has_password else host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. Names other than localhost count as remote."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
