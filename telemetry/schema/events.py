"""The server's events: each is a frozen type and one JSON line.

A line is one JSON object, UTF-8, ended by a newline:

    {"v":1,"ts":1790000000.12,"mono":512.38,"seq":7,"pid":4711,"event":"request.end",
     "request_id":"req_...","session_id":"...","attrs":{...}}

`ts` (Unix seconds) orders lines across files; `mono` measures durations. A gap in `seq` within a
`pid` means that lines were lost. Attribute names are OpenTelemetry's GenAI names, pinned at
`SEMCONV`, where one exists, and `mlx.*` otherwise.

Within a schema version fields are only added, each with a default. A reader ignores unknown fields
and refuses only a higher `v`. Known values are written, also 0 and defaults; unknown or empty
values are omitted. Lines of 0.1 omitted all zeros and defaults: `codec` fills them in.
"""

from __future__ import annotations

from mlxdeck.telemetry.schema.attributes import Amount, Seconds, SmallCount, Tokens, always, named
from mlxdeck.telemetry.schema.attributes import Attrs as Attrs
from mlxdeck.telemetry.schema.closed_sets import (
    AnswerFormat,
    CacheName,
    CacheResult,
    ContentKind,
    EndedBy,
    FallbackReason,
    LookupResult,
    MissReason,
    Outcome,
    Phase,
    Role,
    ToolChoice,
)
from mlxdeck.telemetry.schema.progress_event import RequestProgress as RequestProgress
from mlxdeck.telemetry.schema.server_events import SCHEMA_VERSION as SCHEMA_VERSION
from mlxdeck.telemetry.schema.server_events import SEMCONV as SEMCONV
from mlxdeck.telemetry.schema.server_events import ModelLoad as ModelLoad
from mlxdeck.telemetry.schema.server_events import ModelUnload as ModelUnload
from mlxdeck.telemetry.schema.server_events import ServerStop as ServerStop
from mlxdeck.telemetry.schema.server_events import StreamStart as StreamStart
from mlxdeck.telemetry.schema.server_events import Tick as Tick
from mlxdeck.telemetry.schema.tool_events import CallResult as CallResult
from mlxdeck.telemetry.schema.tool_events import ToolCall as ToolCall


class RequestStart(Attrs, frozen=True, kw_only=True):
    """A request was decoded and accepted."""

    NAME = "request.start"

    operation: str = always("chat", "gen_ai.operation.name")
    """OpenTelemetry's name of the operation."""
    provider: str = always("mlx", "gen_ai.provider.name")
    """OpenTelemetry's name of who answers."""
    model: str = named("gen_ai.request.model", "")
    """Model that the client named; any name is served."""
    dialect: str = named("mlx.dialect", "")
    """API of the request: `anthropic` or `openai`."""
    stream: bool | None = named("gen_ai.request.stream", None)
    """Whether the answer is streamed."""
    max_tokens: Tokens = named("gen_ai.request.max_tokens", 0)
    """Limit of the answer; absent of a request that could not be read."""
    temperature: float | None = named("gen_ai.request.temperature", None)
    """Requested temperature; absent if the client leaves it to the server."""
    top_p: float | None = named("gen_ai.request.top_p", None)
    """Requested top-p."""
    top_k: int | None = named("gen_ai.request.top_k", None)
    """Requested top-k."""
    min_p: float = named("mlx.request.min_p", 0.0)
    """Requested min-p."""
    seed: int | None = named("gen_ai.request.seed", None)
    """Requested seed."""
    presence_penalty: float = named("gen_ai.request.presence_penalty", 0.0)
    """Requested presence penalty."""
    frequency_penalty: float = named("gen_ai.request.frequency_penalty", 0.0)
    """Requested frequency penalty."""
    repetition_penalty: float = named("mlx.request.repetition_penalty", 1.0)
    """Requested repetition penalty; 1 changes nothing."""
    n_biased_tokens: Tokens = named("mlx.request.biased_tokens", 0)
    """Tokens that `logit_bias` names."""
    stop_sequences: tuple[str, ...] = named("gen_ai.request.stop_sequences", ())
    """Texts that end the answer; only with `--capture full`."""
    conversation_id: str = named("gen_ai.conversation.id", "")
    """The client's name of its session, as `session_id` beside `attrs`."""
    agent_id: str = named("gen_ai.agent.id", "")
    """The client's name for the agent that asks, where it runs several; empty for its main one."""
    parent_agent_id: str = named("mlx.agent.parent_id", "")
    """The client's name for the agent that started this one."""
    agent_name: str = named("gen_ai.agent.name", "")
    """Its kind, as the call names it that started it: `Explore`."""
    agent_task: str = named("gen_ai.agent.description", "")
    """What it has to do, in the few words of that call; with `--capture off`, empty."""
    body_bytes: Amount | None = named("http.request.body.size", None)
    """Size of the request's body."""
    trace_parent: str = named("mlx.trace_parent", "")
    """The client's span, as its header `traceparent` names it."""
    n_messages: SmallCount | None = named("mlx.messages", None)
    """Messages of the conversation; absent if it could not be read."""
    n_tools: Amount | None = named("mlx.tools", None)
    """Tools that the model may call; absent if the request could not be read."""
    tool_names: tuple[str, ...] = named("mlx.tool_names", ())
    """Their names."""
    tool_choice: ToolChoice = named("mlx.tool_choice", "auto")
    """`auto`, `any`, `tool` or `none`."""
    forced_tool: str = named("mlx.tool_choice.name", "")
    """The tool that has to be called, where `tool_choice` is `tool`."""
    one_call: bool = named("mlx.tool_choice.one_call", False)
    """Whether the client forbids several calls in one answer."""
    thinking: bool | None = named("mlx.thinking", None)
    """Whether the client requested thinking; absent if it leaves this to the model."""
    thinking_tokens: Tokens = named("mlx.thinking.budget_tokens", 0)
    """Limit of the thinking, where the client sets one."""
    answer_format: AnswerFormat = named("mlx.answer_format", "text")
    """`text`, or `json_schema` where the answer has to conform to one."""
    answer_schema: str = named("mlx.answer_schema", "")
    """That schema as JSON; only with `--capture full`."""
    queue_depth: Amount | None = named("mlx.queue.depth", None)
    """Requests that waited when this one came."""
    removed: tuple[str, ...] = named("mlx.prompt.removed", ())
    """Names of the canonical rules that took something out of the prompt."""
    removed_parts: tuple[str, ...] = named("mlx.prompt.removed_parts", ())
    """A text for each part that a rule changed: the rule, the part, and what it took out. The part
    is `system` or a message's number. What was taken out is told by 8 hex digits of its sha256."""
    history_notes: tuple[str, ...] = named("mlx.history.notes", ())
    """Changes that made the history readable, as `told web_search_tool_result 2`."""
    regrouped: tuple[str, ...] = named("mlx.prompt.regrouped", ())
    """How messages were put together for a template that refuses them as they are."""
    system_hash: str = named("mlx.hash.system", "")
    """First 12 hex digits of the system prompt's sha256."""
    tools_hash: str = named("mlx.hash.tools", "")
    """The same of the tools."""
    message_hashes: tuple[str, ...] = named("mlx.hash.messages", ())
    """First 12 hex digits of each message's sha256, in order."""
    n_failed_results: SmallCount | None = named("mlx.tool.failed_results", None)
    """Results that failed, of those that it brings for the first time; absent if it brings none."""
    n_untold_results: Amount | None = named("mlx.tool.untold_results", None)
    """Results beyond the first 100 that it brings at once; they have no `tool_result`."""
    last_user_text: str = named("mlx.last_user_text", "")
    """The user's last text, shortened; only with `--capture full`."""


class Content(Attrs, frozen=True, kw_only=True):
    """A part of a conversation, written once a stream; only with `--capture full`."""

    NAME = "request.content"

    kind: ContentKind = named("mlx.content.kind", "")
    """`system`, `tools`, `message` or `answer`."""
    role: Role = named("mlx.content.role", "")
    """Who says it: `system`, `user` or `assistant`; empty for tools."""
    hash: str = named("mlx.content.hash", "")
    """What `request.start` calls it by; empty for an answer, which is this request's own."""
    content: str = named("mlx.content.text", "")
    """JSON: texts, tools, or blocks as Anthropic's API writes them."""


class CacheLookup(Attrs, frozen=True, kw_only=True):
    """The result of a cache lookup for a request."""

    NAME = "cache.lookup"

    cache: CacheName = named("mlx.cache.name", "")
    """`exact` for whole answers, `prefix` for KV states."""
    result: LookupResult = always("miss", "mlx.cache.result")
    """`hit`, `partial` or `miss`."""
    tier: str = named("mlx.cache.tier", "")
    """Where a hit lay: `ram`, `disk`, `flight` (just being answered) or the name of another."""
    key: str = named("mlx.cache.key", "")
    """Short hash by which an exact answer is known."""
    matched_tokens: Tokens | None = named("mlx.cache.matched_tokens", None)
    """Tokens of the prompt that were known; absent of exact answers."""
    prompt_tokens: Tokens | None = named("mlx.cache.prompt_tokens", None)
    """Tokens of the prompt; absent of exact answers."""
    miss_reason: MissReason = named("mlx.cache.miss_reason", "")
    """`cold`, `diverged`, `evicted`, `expired`, `not_kept` (the answer was none to repeat),
    `model_changed`, `disabled` or `bypassed`."""
    diverged_at_token: int = named("mlx.cache.diverged_at_token", -1)
    """First token that differs from the nearest prompt before."""
    diverged_block: str = named("mlx.cache.diverged_block", "")
    """Path of the part in the request: `system`, `tools.Read`, `messages.3`."""
    diverged_hash: str = named("mlx.cache.diverged_hash", "")
    """Short hash of that part in this prompt."""
    diverged_hash_before: str = named("mlx.cache.diverged_hash_before", "")
    """Short hashes of that part, in this prompt and in the nearest one before."""
    shared_tokens: Tokens = named("mlx.prompt.shared_tokens", 0)
    """Length of system prompt and tools."""
    message_starts: tuple[Tokens, ...] = named("mlx.prompt.message_starts", ())
    """First token of each message, as far as messages were found in the prompt."""
    tail_start: Tokens = named("mlx.prompt.tail_start", 0)
    """Tokens up to the end of the last message; 0 if it was not found."""
    tool_tokens: tuple[Tokens, ...] = named("mlx.prompt.tool_tokens", ())
    """Tokens of each tool's description, in the order of `mlx.tool_names`; 0 if not found."""
    n_blocks_before: Tokens = named("mlx.prompt.blocks_before", 0)
    """Blocks of 32 tokens that the prompt has in common with one that was told before."""
    block_before: str = named("mlx.prompt.block_before", "")
    """Digest of the last of them: 4 bytes in base64, keyed with a secret of this machine."""
    blocks: str = named("mlx.prompt.blocks", "")
    """Digests of the blocks behind them, one text; each also stands for all before it."""
    regrouped: tuple[str, ...] = named("mlx.prompt.regrouped", ())
    """Regroupings that were found only as the prompt was rendered, beside those that
    `request.start` names."""
    duration_s: Seconds | None = None
    """How long the lookup took."""


class FirstToken(Attrs, frozen=True, kw_only=True):
    """The first token of an answer came out; the times are a request's phases up to here."""

    NAME = "request.first_token"

    ttft_s: Seconds = always(0.0, "gen_ai.server.time_to_first_token")
    """Seconds from the request's arrival to the first token."""
    queue_s: Seconds = always(0.0, "mlx.queue_s")
    """Seconds in the queue."""
    load_s: Seconds | None = named("mlx.load_s", None)
    """Seconds until an unloaded model was loaded again; absent if it was loaded."""
    tokenize_s: Seconds = always(0.0, "mlx.tokenize_s")
    """Seconds to render the prompt and count its tokens."""
    cache_s: Seconds = always(0.0, "mlx.cache_s")
    """Seconds to look in the caches."""
    prefill_s: Seconds = always(0.0, "mlx.prefill_s")
    """Seconds to read the prompt."""
    prefill_tokens: Tokens = always(0, "mlx.prefill_tokens")
    """Prompt tokens that had to be computed, that is: not cached."""


class RequestEnd(Attrs, frozen=True, kw_only=True):
    """A request is over: exactly one for every `request.start`, also for errors and disconnects.

    An unknown figure is absent; this is not the same as 0.
    """

    NAME = "request.end"

    operation: str = always("chat", "gen_ai.operation.name")
    """OpenTelemetry's name of the operation."""
    provider: str = always("mlx", "gen_ai.provider.name")
    """OpenTelemetry's name of who answered."""
    outcome: Outcome = always("ok")
    """`ok`, `error` or `cancelled`."""
    response_id: str = named("gen_ai.response.id", "")
    """The server's name of the answer."""
    model: str = named("gen_ai.response.model", "")
    """Model that answered."""
    finish_reasons: tuple[str, ...] = named("gen_ai.response.finish_reasons", ())
    """Why the answer ended, in Anthropic's words."""
    input_tokens: Tokens | None = named("gen_ai.usage.input_tokens", None)
    """All prompt tokens; the cached ones are a part of it."""
    cached_tokens: Tokens | None = named("gen_ai.usage.cache_read.input_tokens", None)
    """Prompt tokens that were known."""
    output_tokens: Tokens | None = named("gen_ai.usage.output_tokens", None)
    """Tokens that were written; the client is told of fewer where a stop sequence ended the answer
    within a step of several."""
    reasoning_tokens: Tokens | None = named("gen_ai.usage.reasoning.output_tokens", None)
    """Tokens of it that were thinking."""
    forced_tokens: Tokens | None = named("mlx.held.forced_tokens", None)
    """Tokens of it that its grammar left no choice about, written without a pass of their own."""
    drafted_tokens: Tokens | None = named("mlx.lookup.drafted_tokens", None)
    """Tokens that were guessed, from the conversation or by a draft model, and verified."""
    accepted_tokens: Tokens | None = named("mlx.lookup.accepted_tokens", None)
    """Those of them that are the answer's, written without a pass of their own."""
    duration_s: Seconds = always(0.0, "gen_ai.server.request.duration")
    """Seconds from arrival to end."""
    ttft_s: Seconds | None = named("gen_ai.server.time_to_first_token", None)
    """Seconds to the first token, or to the first piece of an answer that was known."""
    time_per_output_token_s: Seconds | None = named("gen_ai.server.time_per_output_token", None)
    """Mean seconds between tokens."""
    status: SmallCount = always(200, "http.response.status_code")
    """HTTP status; 499 where the client left."""
    error_type: str = named("error.type", "")
    """Type of its error, of few values; absent where there was none."""
    cache_result: CacheResult = named("mlx.cache.result", "")
    """`exact`, `prefix` or `miss`: the best that any cache did for it; empty if none was asked."""
    cache_tier: str = named("mlx.cache.tier", "")
    """Where the hit lay, as `cache.lookup` says it."""
    miss_reason: MissReason = named("mlx.cache.miss_reason", "")
    """Why tokens had to be computed that might have been known, as the last lookup says it."""
    diverged_block: str = named("mlx.cache.diverged_block", "")
    """The part that caused the miss: the first one that differs from the nearest earlier prompt."""
    queue_s: Seconds | None = named("mlx.queue_s", None)
    """Seconds in the queue."""
    load_s: Seconds | None = named("mlx.load_s", None)
    """Seconds until an unloaded model was loaded again; absent if it was loaded."""
    tokenize_s: Seconds | None = named("mlx.tokenize_s", None)
    """Seconds to render the prompt and count its tokens."""
    cache_s: Seconds | None = named("mlx.cache_s", None)
    """Seconds to look in the caches."""
    prefill_s: Seconds | None = named("mlx.prefill_s", None)
    """Seconds to read the prompt."""
    decode_s: Seconds | None = named("mlx.decode_s", None)
    """Seconds to write the answer."""
    n_tool_calls: SmallCount = always(0, "mlx.tool_calls")
    """Calls that could be read."""
    ended_by: EndedBy = named("mlx.ended_by", "")
    """`loop` if the loop guard ended the answer because it repeated itself; else empty."""
    let_go: str = named("mlx.held.let_go", "")
    """Why the answer left the grammar that constrained it, which ends the answer in an error."""
    answer_loosened: str = named("mlx.answer.loosened", "")
    """Why the answer is held to a part of its schema only; empty if it is held to all of it."""
    backend: str = named("mlx.backend", "")
    """Backend that answered, by its name in the settings."""
    fell_back_from: str = named("mlx.fallback.from", "")
    """Backend that was asked before, and did not answer."""
    fallback_reason: FallbackReason = named("mlx.fallback.reason", "")
    """Why it did not: `window` (the prompt is too long for it), `unreadable` (it reads text only),
    `down`, `loading`, `error` or `busy`."""


class Error(Attrs, frozen=True, kw_only=True):
    """Something failed; `error.type` has few values, the message holds no content."""

    NAME = "error"

    error_type: str = named("error.type", "")
    """Type of the error, of few values."""
    message: str = ""
    """What went wrong, for a person; secrets are masked."""
    phase: Phase = named("mlx.phase", "")
    """The server's activity: `prepare`, `generate` or `decode` (reading the body)."""
    retryable: bool = always(False)
    """Whether the same request may work later."""


_REQUESTS = (
    *(RequestStart, Content, CacheLookup, RequestProgress, FirstToken),
    *(ToolCall, CallResult, RequestEnd, Error),
)
_SERVERS = (StreamStart, ServerStop, Tick, ModelUnload, ModelLoad)
EVENTS: dict[str, type[Attrs]] = {kind.NAME: kind for kind in (*_SERVERS, *_REQUESTS)}
