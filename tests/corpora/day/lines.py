"""From what happens to what telemetry tells of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from mlxdeck.telemetry.schema import events as t
from tests.corpora.day.caches import Lookup
from tests.corpora.day.requests import Ask, Call

if TYPE_CHECKING:
    from tests.corpora.day.server import Running, Server

STATUS = {
    "invalid_request_error": 400,
    "overloaded_error": 529,
    "api_error": 500,
    "": 200,
}
STOPPED = t.Error(error_type="api_error", message="the engine has stopped", retryable=True)
FAILED = t.Error(
    error_type="api_error", message="the model failed: [metal] command buffer", retryable=True
)
STALLED = t.Error(
    error_type="api_error", message="the model made no progress for 120 s", retryable=True
)
CANCELLED = 499


def refused(reason: str) -> t.Error:
    """A body that can't be read."""
    return t.Error(error_type="invalid_request_error", message=reason)


def too_long(n_tokens: int, limit_tokens: int) -> t.Error:
    """A prompt that leaves no room."""
    return refused(f"prompt is too long: {n_tokens} tokens > {limit_tokens} maximum")


def busy(n_waiting: int) -> t.Error:
    """No place for one more."""
    message = f"{n_waiting} requests are waiting already"
    return t.Error(error_type="overloaded_error", message=message, retryable=True)


def broken(why: str) -> t.Error:
    """An answer that left its grammar."""
    message = f"the answer left what it is held to: {why}"
    return t.Error(error_type="api_error", message=message, retryable=True)


def in_phase(error: t.Error, phase: str) -> t.Error:
    """The same, with where it happened."""
    return msgspec.structs.replace(error, phase=phase)


def start(ask: Ask, queue_depth: int) -> t.RequestStart:
    """`request.start`."""
    conversation, client = ask.conversation, ask.conversation.client
    return t.RequestStart(
        model="local",
        dialect=client.dialect,
        stream=ask.stream,
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        seed=ask.seed,
        conversation_id=conversation.session_id,
        agent_id=conversation.agent_id,
        parent_agent_id=conversation.parent_id,
        body_bytes=conversation.body_bytes,
        n_messages=ask.n_messages,
        n_tools=len(client.tools),
        tool_names=client.tools,
        thinking=ask.thinking,
        queue_depth=queue_depth,
        removed=("billing_header",) if client.tools else (),
        system_hash=client.system_hash,
        tools_hash=client.tools_hash,
        message_hashes=ask.hashes,
    )


def exact_lookup(key: str, known: Lookup, duration_s: float) -> t.CacheLookup:
    """`cache.lookup` of whole answers."""
    return t.CacheLookup(
        cache="exact",
        result="hit" if known.tier else "miss",
        tier=known.tier,
        key=key,
        miss_reason=known.reason,
        duration_s=duration_s,
    )


def prefix_lookup(ask: Ask, known: Lookup, duration_s: float) -> t.CacheLookup:
    """`cache.lookup` of states."""
    n_tokens = ask.prompt.n_tokens
    whole = "hit" if known.n_tokens >= n_tokens - 1 else "partial"
    return t.CacheLookup(
        cache="prefix",
        result=whole if known.n_tokens else "miss",
        tier=known.tier,
        matched_tokens=known.n_tokens,
        prompt_tokens=n_tokens,
        miss_reason=known.reason,
        diverged_at_token=known.diverged_at,
        diverged_block=known.block,
        diverged_hash=known.ours,
        diverged_hash_before=known.theirs,
        shared_tokens=ask.conversation.client.system_tokens,
        message_starts=ask.starts,
        duration_s=duration_s,
    )


def first_token(running: Running) -> t.FirstToken:
    """`request.first_token`."""
    times = running.times
    assert times is not None
    return t.FirstToken(
        ttft_s=times.first_token_s - running.began_s,
        queue_s=times.begins_s - times.tokenized_s,
        tokenize_s=times.tokenized_s - running.began_s,
        cache_s=0.0005,
        prefill_s=times.first_token_s - times.begins_s,
        prefill_tokens=running.ask.prompt.n_tokens - running.known.n_tokens,
    )


def tool_call(call: Call, index: int, *, held: bool) -> t.ToolCall:
    """`tool_call`, also of one that was none."""
    raw = call.arguments.encode()
    digest = hashlib.blake2b(raw, digest_size=6).hexdigest()
    if call.parse_error:
        return t.ToolCall(
            index=index,
            parser="json_tags",
            parse_ok=False,
            parse_error=call.parse_error,
            arguments_bytes=len(raw),
            arguments_hash=digest,
        )
    return t.ToolCall(
        name=call.name,
        call_id=call.id,
        index=index,
        parser="json_tags",
        repaired=call.repaired,
        constrained=held and call.valid and not call.repaired,
        schema_valid=call.valid,
        arguments_bytes=len(raw),
        arguments_hash=digest,
        arguments=call.arguments,
    )


def end(
    running: Running,
    model: str,
    now_s: float,
    *,
    error: t.Error | None = None,
    cancelled: bool = False,
) -> t.RequestEnd:
    """`request.end`, whatever has happened until now."""
    ask, known = running.ask, running.known
    exact = running.times is None and bool(known.tier)
    ok = not error and not cancelled
    error_type = error.error_type if error else ""
    cache_result = "exact" if exact else "prefix" if known.n_tokens else "miss"
    return t.RequestEnd(
        outcome="ok" if ok else "error" if error else "cancelled",
        response_id=running.id,
        model=model,
        finish_reasons=(_finish_reason(ask),) if ok else (),
        duration_s=now_s - running.began_s,
        status=CANCELLED if cancelled else STATUS[error_type],
        error_type=error_type,
        cache_result="" if ask.malformed else cache_result,
        cache_tier=known.tier,
        miss_reason=known.reason,
        diverged_block=known.block,
        n_tool_calls=sum(not call.parse_error for call in ask.calls) if ok else 0,
        ended_by=ask.ended_by if ok else "",
        let_go=ask.let_go if error and running.times is not None else "",
        **_figures(running, now_s),
    )


def _figures(running: Running, now_s: float) -> dict[str, Any]:
    """Tokens and times, as far as they are known by now; what is not is left out."""
    ask, times, known = running.ask, running.times, running.known
    if times is None:
        if not known.tier:
            return {}
        n_tokens = ask.prompt.n_tokens
        tokens = {"input_tokens": n_tokens, "cached_tokens": n_tokens}
        tokens["output_tokens"] = ask.output_tokens
        return {**tokens, "ttft_s": now_s - running.began_s, "cache_s": 0.0005}
    decode_s = max(0.0, now_s - times.first_token_s)
    share = min(1.0, decode_s / max(times.ends_s - times.first_token_s, 1e-6))
    n_output = int(ask.output_tokens * share)
    figures: dict[str, Any] = {
        "input_tokens": ask.prompt.n_tokens,
        "cached_tokens": known.n_tokens,
        "output_tokens": n_output,
        "queue_s": max(0.0, min(now_s, times.begins_s) - times.tokenized_s),
        "tokenize_s": times.tokenized_s - running.began_s,
        "cache_s": 0.0005,
        "prefill_s": max(0.0, min(now_s, times.first_token_s) - times.begins_s),
        "decode_s": decode_s,
    }
    if ask.reasoning_tokens:
        figures["reasoning_tokens"] = min(ask.reasoning_tokens, n_output)
    if now_s >= times.first_token_s:
        figures["ttft_s"] = times.first_token_s - running.began_s
    if n_output > 1:
        figures["time_per_output_token_s"] = decode_s / (n_output - 1)
    return figures


def _finish_reason(ask: Ask) -> str:
    if ask.ended_by or ask.output_tokens >= ask.max_tokens:
        return "max_tokens"
    return "tool_use" if any(not call.parse_error for call in ask.calls) else "end_turn"


def tick(server: Server, now_s: float) -> t.Tick:
    """`tick`."""
    machine = server.machine
    rate_out = rate_in = 0.0
    for running in server.running:
        times = running.times
        if times is None:
            continue
        if times.first_token_s <= now_s < times.ends_s:
            rate_out += running.ask.output_tokens / (times.ends_s - times.first_token_s)
        elif times.begins_s <= now_s < times.first_token_s:
            rate_in = machine.prefill_tokens_per_s
    held = sum(each.ask.prompt.n_tokens for each in server.running if each.times)
    prefix_bytes = server.states.n_tokens * machine.kv_bytes_per_token
    active_bytes = machine.model_bytes + prefix_bytes + held * machine.kv_bytes_per_token
    server.peak_bytes = max(server.peak_bytes, active_bytes)
    return t.Tick(
        active=server.n_active,
        queued=server.n_waiting,
        output_tokens_per_s=rate_out,
        prefill_tokens_per_s=rate_in,
        exact_entries=len(server.answers),
        exact_bytes=len(server.answers) * 2_900,
        prefix_entries=len(server.states),
        prefix_bytes=prefix_bytes,
        memory_active_bytes=active_bytes,
        memory_peak_bytes=server.peak_bytes,
        process_bytes=active_bytes + 610_000_000,
        n_requests=server.n_requests,
        n_errors=server.n_errors,
    )
