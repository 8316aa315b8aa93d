"""What the server reports about itself: every event as a frozen type, and its one JSON line.

A line is one JSON object, UTF-8, ended by a newline:

    {"v":1,"ts":1790000000.12,"mono":512.38,"seq":7,"pid":4711,"event":"request.end",
     "request_id":"req_...","session_id":"...","attrs":{...}}

`ts` (Unix seconds) orders lines across files, `mono` measures durations, a gap in `seq` within a
`pid` means that lines were lost. Attribute names are OpenTelemetry's GenAI names, pinned at
`SEMCONV`, where one exists, and `mlx.*` otherwise. Within a schema version fields are only added,
each with a default: a reader ignores what it doesn't know and refuses only a higher `v`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

SCHEMA_VERSION = 1
SEMCONV = "gen_ai/1.41.0"


class Attrs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every event's attributes. `NAME` is the `event` field of its line."""

    NAME: ClassVar[str] = ""


def _named(name: str, default: Any) -> Any:
    return msgspec.field(default=default, name=name)


class StreamStart(Attrs, frozen=True, kw_only=True):
    """First line of every file, also after a rotation."""

    NAME = "stream.start"

    schema_version: int = _named("schema.version", SCHEMA_VERSION)
    semconv: str = SEMCONV
    service_name: str = _named("service.name", "mlxdeck")
    service_version: str = _named("service.version", "")
    server_address: str = _named("server.address", "")
    server_port: int = _named("server.port", 0)
    model: str = _named("gen_ai.request.model", "")
    context_tokens: int = _named("mlx.context_tokens", 0)
    host: str = _named("host.name", "")
    chip: str = _named("host.cpu.model.name", "")
    memory_bytes: int = _named("host.memory_bytes", 0)
    mlx_version: str = _named("mlx.version", "")
    device: str = _named("mlx.device", "")
    capture: str = _named("mlx.capture", "tools")
    previous_file: str = _named("mlx.previous_file", "")


class ServerStop(Attrs, frozen=True, kw_only=True):
    """The server ends in good order."""

    NAME = "server.stop"

    reason: str = ""
    uptime_s: float = 0.0
    dropped_lines: int = 0


class RequestStart(Attrs, frozen=True, kw_only=True):
    """A request was decoded and accepted."""

    NAME = "request.start"

    operation: str = _named("gen_ai.operation.name", "chat")
    provider: str = _named("gen_ai.provider.name", "mlx")
    model: str = _named("gen_ai.request.model", "")
    dialect: str = _named("mlx.dialect", "")
    stream: bool = _named("gen_ai.request.stream", False)
    max_tokens: int = _named("gen_ai.request.max_tokens", 0)
    temperature: float | None = _named("gen_ai.request.temperature", None)
    top_p: float | None = _named("gen_ai.request.top_p", None)
    top_k: int | None = _named("gen_ai.request.top_k", None)
    min_p: float = _named("mlx.request.min_p", 0.0)
    seed: int | None = _named("gen_ai.request.seed", None)
    presence_penalty: float = _named("gen_ai.request.presence_penalty", 0.0)
    frequency_penalty: float = _named("gen_ai.request.frequency_penalty", 0.0)
    repetition_penalty: float = _named("mlx.request.repetition_penalty", 1.0)
    n_biased_tokens: int = _named("mlx.request.biased_tokens", 0)
    stop_sequences: tuple[str, ...] = _named("gen_ai.request.stop_sequences", ())
    conversation_id: str = _named("gen_ai.conversation.id", "")
    body_bytes: int = _named("http.request.body.size", 0)
    n_messages: int = _named("mlx.messages", 0)
    n_tools: int = _named("mlx.tools", 0)
    tool_names: tuple[str, ...] = _named("mlx.tool_names", ())
    tool_choice: str = _named("mlx.tool_choice", "auto")
    forced_tool: str = _named("mlx.tool_choice.name", "")
    """The tool that has to be called, where `tool_choice` is `tool`."""
    one_call: bool = _named("mlx.tool_choice.one_call", False)
    """Whether the client forbids several calls in one answer."""
    thinking: bool | None = _named("mlx.thinking", None)
    """What the client asked for; None leaves it to the model."""
    thinking_tokens: int = _named("mlx.thinking.budget_tokens", 0)
    answer_format: str = _named("mlx.answer_format", "text")
    """`text`, or `json_schema` where the answer has to conform to one."""
    answer_schema: str = _named("mlx.answer_schema", "")
    """That schema as JSON; only with `--capture full`."""
    queue_depth: int = _named("mlx.queue.depth", 0)
    removed: tuple[str, ...] = _named("mlx.prompt.removed", ())
    """Names of the canonical rules that took something out of the prompt."""
    history_notes: tuple[str, ...] = _named("mlx.history.notes", ())
    """What was done to make the history readable, as `told web_search_tool_result 2`."""
    regrouped: tuple[str, ...] = _named("mlx.prompt.regrouped", ())
    system_hash: str = _named("mlx.hash.system", "")
    tools_hash: str = _named("mlx.hash.tools", "")
    message_hashes: tuple[str, ...] = _named("mlx.hash.messages", ())
    """First 12 hex digits of each message's sha256, in order."""
    last_user_text: str = _named("mlx.last_user_text", "")
    """What the user asked, cut short; only with `--capture full`."""


class Content(Attrs, frozen=True, kw_only=True):
    """A part of a conversation, told once a stream; only with `--capture full`."""

    NAME = "request.content"

    kind: str = _named("mlx.content.kind", "")
    """`system`, `tools`, `message` or `answer`."""
    role: str = _named("mlx.content.role", "")
    hash: str = _named("mlx.content.hash", "")
    """What `request.start` calls it by; empty for an answer, which is this request's own."""
    content: str = _named("mlx.content.text", "")
    """JSON: texts, tools, or blocks as Anthropic's API writes them."""


class CacheLookup(Attrs, frozen=True, kw_only=True):
    """What a cache knew about a request."""

    NAME = "cache.lookup"

    cache: str = _named("mlx.cache.name", "")
    """`exact` for whole answers, `prefix` for KV states."""
    result: str = _named("mlx.cache.result", "miss")
    """`hit`, `partial` or `miss`."""
    tier: str = _named("mlx.cache.tier", "")
    key: str = _named("mlx.cache.key", "")
    matched_tokens: int = _named("mlx.cache.matched_tokens", 0)
    prompt_tokens: int = _named("mlx.cache.prompt_tokens", 0)
    miss_reason: str = _named("mlx.cache.miss_reason", "")
    """`cold`, `diverged`, `evicted`, `expired`, `not_kept` (the answer was none to repeat),
    `model_changed`, `disabled` or `bypassed`."""
    diverged_at_token: int = _named("mlx.cache.diverged_at_token", -1)
    diverged_block: str = _named("mlx.cache.diverged_block", "")
    """Path of the part in the request: `system`, `tools.Read`, `messages.3`."""
    diverged_hash: str = _named("mlx.cache.diverged_hash", "")
    diverged_hash_before: str = _named("mlx.cache.diverged_hash_before", "")
    """Short hashes of that part, in this prompt and in the nearest one before."""
    shared_tokens: int = _named("mlx.prompt.shared_tokens", 0)
    """Length of system prompt and tools."""
    message_starts: tuple[int, ...] = _named("mlx.prompt.message_starts", ())
    """First token of each message, as far as they were found in the prompt."""
    regrouped: tuple[str, ...] = _named("mlx.prompt.regrouped", ())
    """Regroupings that were found only as the prompt was rendered, beside those that
    `request.start` names."""
    duration_s: float = 0.0


class FirstToken(Attrs, frozen=True, kw_only=True):
    """The first token of an answer came out; the times are a request's phases up to here."""

    NAME = "request.first_token"

    ttft_s: float = _named("gen_ai.server.time_to_first_token", 0.0)
    queue_s: float = _named("mlx.queue_s", 0.0)
    tokenize_s: float = _named("mlx.tokenize_s", 0.0)
    cache_s: float = _named("mlx.cache_s", 0.0)
    prefill_s: float = _named("mlx.prefill_s", 0.0)
    prefill_tokens: int = _named("mlx.prefill_tokens", 0)
    """Prompt tokens that had to be computed, that is: not cached."""


class ToolCall(Attrs, frozen=True, kw_only=True):
    """The model called a tool, or tried to."""

    NAME = "tool_call"

    name: str = _named("gen_ai.tool.name", "")
    call_id: str = _named("gen_ai.tool.call.id", "")
    type: str = _named("gen_ai.tool.type", "function")
    index: int = _named("mlx.tool.index", 0)
    parser: str = _named("mlx.tool.parser", "")
    parse_ok: bool = _named("mlx.tool.parse_ok", True)
    parse_error: str = _named("mlx.tool.parse_error", "")
    repaired: bool = _named("mlx.tool.repaired", False)
    constrained: bool = _named("mlx.tool.constrained", False)
    unconstrained: str = _named("mlx.tool.unconstrained", "")
    """Why the model could not be held to the tools' schemas; empty if it was, or had not to be."""
    schema_valid: bool | None = _named("mlx.tool.schema_valid", None)
    arguments_bytes: int = _named("mlx.tool.arguments_bytes", 0)
    arguments_hash: str = _named("mlx.tool.arguments_hash", "")
    arguments: str = _named("gen_ai.tool.call.arguments", "")
    """The arguments as JSON text; with `--capture off`, empty."""


class RequestEnd(Attrs, frozen=True, kw_only=True):
    """A request is over: exactly one for every `request.start`, whatever happened."""

    NAME = "request.end"

    outcome: str = "ok"
    """`ok`, `error` or `cancelled`."""
    response_id: str = _named("gen_ai.response.id", "")
    model: str = _named("gen_ai.response.model", "")
    finish_reasons: tuple[str, ...] = _named("gen_ai.response.finish_reasons", ())
    input_tokens: int = _named("gen_ai.usage.input_tokens", 0)
    """All prompt tokens; the cached ones are a part of it."""
    cached_tokens: int = _named("gen_ai.usage.cache_read.input_tokens", 0)
    output_tokens: int = _named("gen_ai.usage.output_tokens", 0)
    reasoning_tokens: int = _named("gen_ai.usage.reasoning.output_tokens", 0)
    duration_s: float = _named("gen_ai.server.request.duration", 0.0)
    ttft_s: float = _named("gen_ai.server.time_to_first_token", 0.0)
    time_per_output_token_s: float = _named("gen_ai.server.time_per_output_token", 0.0)
    status: int = _named("http.response.status_code", 200)
    error_type: str = _named("error.type", "")
    cache_result: str = _named("mlx.cache.result", "")
    """`exact`, `prefix` or `miss`: the best that any cache did for it."""
    cache_tier: str = _named("mlx.cache.tier", "")
    queue_s: float = _named("mlx.queue_s", 0.0)
    tokenize_s: float = _named("mlx.tokenize_s", 0.0)
    cache_s: float = _named("mlx.cache_s", 0.0)
    prefill_s: float = _named("mlx.prefill_s", 0.0)
    decode_s: float = _named("mlx.decode_s", 0.0)
    n_tool_calls: int = _named("mlx.tool_calls", 0)
    ended_by: str = _named("mlx.ended_by", "")
    """`loop` where the answer went round in circles and was ended for that; else empty."""
    let_go: str = _named("mlx.held.let_go", "")
    """Why the answer left the grammar that it was held to, which ends it in an error."""


class Error(Attrs, frozen=True, kw_only=True):
    """Something failed; `error.type` has few values, the message holds no content."""

    NAME = "error"

    error_type: str = _named("error.type", "")
    message: str = ""
    phase: str = _named("mlx.phase", "")
    retryable: bool = False


class Tick(Attrs, frozen=True, kw_only=True):
    """The state of the server: once a second while it works, every ten seconds when idle."""

    NAME = "tick"

    active: int = _named("mlx.active", 0)
    queued: int = _named("mlx.queued", 0)
    output_tokens_per_s: float = _named("mlx.output_tokens_per_s", 0.0)
    prefill_tokens_per_s: float = _named("mlx.prefill_tokens_per_s", 0.0)
    exact_entries: int = _named("mlx.cache.exact.entries", 0)
    exact_bytes: int = _named("mlx.cache.exact.bytes", 0)
    prefix_entries: int = _named("mlx.cache.prefix.entries", 0)
    prefix_bytes: int = _named("mlx.cache.prefix.bytes", 0)
    memory_active_bytes: int = _named("mlx.memory.active_bytes", 0)
    memory_peak_bytes: int = _named("mlx.memory.peak_bytes", 0)
    process_bytes: int = _named("process.memory.usage", 0)
    n_requests: int = _named("mlx.requests_total", 0)
    n_errors: int = _named("mlx.errors_total", 0)
    dropped_lines: int = _named("mlx.telemetry.dropped_total", 0)


EVENTS: dict[str, type[Attrs]] = {
    kind.NAME: kind
    for kind in (
        StreamStart,
        ServerStop,
        RequestStart,
        Content,
        CacheLookup,
        FirstToken,
        ToolCall,
        RequestEnd,
        Error,
        Tick,
    )
}
