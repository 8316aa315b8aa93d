"""Events of the server itself, in the form that `events` describes."""

from __future__ import annotations

from mlxdeck.telemetry.schema.attributes import (
    Amount,
    Attrs,
    Limit,
    Seconds,
    Size,
    always,
    named,
)
from mlxdeck.telemetry.schema.closed_sets import Capture, LoadOutcome

SCHEMA_VERSION = 1
SEMCONV = "gen_ai/1.41.0"


class StreamStart(Attrs, frozen=True, kw_only=True):
    """First line of every file, also after a rotation."""

    NAME = "stream.start"

    schema_version: int = always(SCHEMA_VERSION, "schema.version")
    """Version of these lines, as their `v`."""
    semconv: str = always(SEMCONV)
    """Version of OpenTelemetry's names that are used."""
    service_name: str = always("mlxdeck", "service.name")
    """Always `mlxdeck`."""
    service_version: str = named("service.version", "")
    """Version of mlxdeck."""
    server_address: str = named("server.address", "")
    """Address that the server listens at."""
    server_port: Amount = named("server.port", 0)
    """Port that the server listens at; 0 of a stream without a server."""
    model: str = named("gen_ai.request.model", "")
    """Model that is loaded."""
    context_tokens: Amount = named("mlx.context_tokens", 0)
    """Tokens that the model can look back."""
    host: str = named("host.name", "")
    """Name of the machine."""
    chip: str = named("host.cpu.model.name", "")
    """Name of its processor."""
    memory_bytes: Amount = named("host.memory_bytes", 0)
    """Its memory."""
    mlx_version: str = named("mlx.version", "")
    """Version of MLX."""
    device: str = named("mlx.device", "")
    """Where MLX computes: `metal` or `cpu`."""
    capture: Capture = named("mlx.capture", "tools")
    """Captured content: `off`, `tools` (calls, and results that failed) or `full`."""
    kv_token_bytes: Size | None = named("mlx.kv.token_bytes", None)
    """Bytes of a KV state for each token, in layers that keep all; absent if it is unknown."""
    kv_window_tokens: Amount = named("mlx.kv.window_tokens", 0)
    """How far back the other layers look; 0 if there are none."""
    kv_window_bytes: Size = named("mlx.kv.window_bytes", 0.0)
    """Bytes of them for each token in their window."""
    kv_fixed_bytes: Amount = named("mlx.kv.fixed_bytes", 0)
    """Bytes of running states, whatever they have read."""
    cache_policy: str = named("mlx.cache.policy", "")
    """Which KV states go first: `lru` or `adaptive`."""
    disk_cache: bool | None = named("mlx.cache.disk", None)
    """Whether states and answers are kept on disk too; absent of lines of earlier versions."""
    exact_cache_entries: Amount | None = named("mlx.cache.exact.limit_entries", None)
    """Limit of whole answers in memory."""
    answer_max_age_s: Limit | None = named("mlx.cache.exact.max_age_s", None)
    """How long an answer may be repeated."""
    canonical_off: tuple[str, ...] = named("mlx.canonical.off", ())
    """Canonical rules that are turned off."""
    previous_file: str = named("mlx.previous_file", "")
    """The file of the same run before this one."""


class ServerStop(Attrs, frozen=True, kw_only=True):
    """The server ends in good order."""

    NAME = "server.stop"

    reason: str = ""
    """Why it ends."""
    uptime_s: Seconds = always(0.0)
    """How long it has run."""
    dropped_lines: Amount = always(0)
    """Lines that could not be written."""


class Tick(Attrs, frozen=True, kw_only=True):
    """The state of the server: once a second while it works, every ten seconds when idle."""

    NAME = "tick"

    active: Amount = always(0, "mlx.active")
    """Requests in the engine."""
    queued: Amount | None = always(0, "mlx.queued")
    """Requests that wait for it; null where only other servers answer, which don't report it."""
    max_active: Amount | None = named("mlx.active.limit", None)
    """How many requests the engine takes at once; absent where no model is here."""
    max_queued: Amount | None = named("mlx.queued.limit", None)
    """How many may wait before others are refused."""
    output_tokens_per_s: float = always(0.0, "mlx.output_tokens_per_s")
    """Tokens written a second since the last tick."""
    prefill_tokens_per_s: float = always(0.0, "mlx.prefill_tokens_per_s")
    """Prompt tokens read a second since the last tick."""
    exact_entries: Amount = always(0, "mlx.cache.exact.entries")
    """Whole answers in memory."""
    exact_bytes: Amount = always(0, "mlx.cache.exact.bytes")
    """Their size."""
    prefix_entries: Amount = always(0, "mlx.cache.prefix.entries")
    """KV states in memory."""
    prefix_bytes: Amount = always(0, "mlx.cache.prefix.bytes")
    """Their size."""
    prefix_quantized_bytes: Amount = named("mlx.cache.prefix.quantized_bytes", 0)
    """Those of them that lie in 8 bits."""
    prefix_limit_bytes: Amount | None = named("mlx.cache.prefix.limit_bytes", None)
    """Limit of KV states in memory; absent of lines of earlier versions."""
    memory_active_bytes: Amount = always(0, "mlx.memory.active_bytes")
    """Memory that MLX uses."""
    memory_peak_bytes: Amount = always(0, "mlx.memory.peak_bytes")
    """The most that it has used."""
    memory_limit_bytes: Amount | None = named("mlx.memory.limit_bytes", None)
    """What models and their states may take: MLX's limit on Metal, else the machine's memory."""
    process_bytes: Amount = always(0, "process.memory.usage")
    """Resident memory of the server."""
    n_requests: Amount = always(0, "mlx.requests_total")
    """Requests since the start."""
    n_errors: Amount = always(0, "mlx.errors_total")
    """Those of them that ended in an error."""
    dropped_lines: Amount = always(0, "mlx.telemetry.dropped_total")
    """Lines since the start that could not be written."""
    unloaded_models: tuple[str, ...] = named("mlx.models.unloaded", ())
    """Models that are not in memory, because nobody has asked for them."""
    loading_models: tuple[str, ...] = named("mlx.models.loading", ())
    """Models that are being loaded again."""


class ModelUnload(Attrs, frozen=True, kw_only=True):
    """A model was unloaded, because nobody had asked for it for a while."""

    NAME = "model.unload"

    model: str = named("gen_ai.request.model", "")
    """Its name."""
    freed_bytes: int | None = named("mlx.model.freed_bytes", None)
    """Memory of MLX that this gave back, KV states included."""


class ModelLoad(Attrs, frozen=True, kw_only=True):
    """A model was loaded again, as a request needed it, or could not be."""

    NAME = "model.load"

    model: str = named("gen_ai.request.model", "")
    """Its name."""
    outcome: LoadOutcome = always("ok")
    """`ok` or `error`."""
    duration_s: Seconds | None = named("mlx.model.load_s", None)
    """Seconds that it took; absent if it failed."""
    message: str = ""
    """Why it failed."""
