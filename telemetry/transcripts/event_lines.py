"""Events as lines, made of what a transcript tells of a request. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.attributes import MAX_COUNT
from mlxdeck.telemetry.transcripts.conversation_state import CameBack, Conversation, OpenRequest
from mlxdeck.telemetry.transcripts.message_blocks import as_json, blocks_of, text_of
from mlxdeck.telemetry.transcripts.transcript_lines import Shape

_MAX_RESULT = 500
"""Characters of what a failed tool says."""
TIER = "api"
"""Where hits lie: with whoever answered."""
PID = 0
"""Lines of transcripts name no process."""


@dataclass(frozen=True, slots=True)
class KnownShape:
    """System prompt and tools of several requests: JSON and short hash of each."""

    system: str
    system_hash: str
    tools: str
    tools_hash: str
    tool_names: tuple[str, ...]

    @classmethod
    def of(cls, shape: Shape) -> KnownShape:
        """The texts of a system prompt, without what marks their caching."""
        tools = shape.tools or []
        names = (tool.get("name") for tool in tools)
        return cls(
            *as_json([text_of([block]) for block in blocks_of(shape.system)]),
            *as_json(tools),
            tuple(name for name in names if isinstance(name, str)),
        )


class EventLines:
    """Encodes events, one line each."""

    def __init__(self) -> None:
        self._seq = 0
        self._told_shapes = set[str]()

    def _line(
        self,
        found: Conversation,
        request: OpenRequest,
        attrs: t.Attrs,
        ts: float,
        unknown: Collection[str] = (),
    ) -> bytes:
        self._seq += 1
        return codec.encode(
            attrs,
            ts=ts,
            mono=ts,
            seq=self._seq,
            pid=PID,
            request_id=request.name,
            session_id=found.session,
            unknown=unknown,
        )

    def start(
        self,
        found: Conversation,
        request: OpenRequest,
        shape: KnownShape | None,
        parent: str,
        calls: Mapping[str, tuple[str, float]],
    ) -> Iterator[bytes]:
        """A request begins; it tells the messages and results that none before it has told."""
        ts = request.start_ts
        for role, digest, content in found.unsent:
            part = t.Content(kind="message", role=role, hash=digest, content=content)
            yield self._line(found, request, part, ts)
        if shape and found.shape not in self._told_shapes:
            self._told_shapes.add(found.shape)
            system = t.Content(
                kind="system", role="system", hash=shape.system_hash, content=shape.system
            )
            yield self._line(found, request, system, ts)
            tools = t.Content(kind="tools", hash=shape.tools_hash, content=shape.tools)
            yield self._line(found, request, tools, ts)
        thinking = (found.params.thinking or {}).get("type")
        failed = sum(each.failed for each in found.results)
        start = t.RequestStart(
            provider="",
            model=request.model or found.params.model or "",
            dialect="anthropic",
            max_tokens=found.params.max_tokens or 0,
            conversation_id=found.session,
            agent_id=found.agent,
            parent_agent_id=parent,
            agent_name=found.kind,
            agent_task=found.task,
            n_messages=min(found.n_messages, MAX_COUNT) or None,
            n_tools=len(shape.tool_names) if shape else None,
            tool_names=shape.tool_names if shape else (),
            system_hash=shape.system_hash if shape else "",
            tools_hash=shape.tools_hash if shape else "",
            thinking=None if thinking is None else thinking != "disabled",
            message_hashes=tuple(found.hashes),
            n_failed_results=min(failed, MAX_COUNT) if found.results else None,
            last_user_text=found.asked,
        )
        yield self._line(found, request, start, ts)
        for came in found.results:
            yield self._line(found, request, _result(came, calls.get(came.call_id)), ts)

    def call(
        self, found: Conversation, request: OpenRequest, block: Mapping[str, Any], ts: float
    ) -> bytes:
        """A call of an answer's block."""
        arguments, digest = as_json(block.get("input"))
        call = t.ToolCall(
            name=str(block.get("name") or ""),
            call_id=str(block.get("id") or ""),
            index=request.n_calls,
            arguments_bytes=len(arguments.encode("utf-8", "replace")),
            arguments_hash=digest,
            arguments=arguments,
        )
        return self._line(found, request, call, ts)

    def answer(self, found: Conversation, request: OpenRequest) -> tuple[str, str, bytes]:
        """An answer's hash, its JSON, and the line with it."""
        content, digest = as_json(request.blocks)
        part = t.Content(kind="answer", role="assistant", hash=digest, content=content)
        return digest, content, self._line(found, request, part, request.last_ts)

    def error(
        self, found: Conversation, request: OpenRequest, ts: float, kind: str, text: str
    ) -> bytes:
        """What the client says went wrong."""
        told = t.Error(error_type=kind, message=text[:_MAX_RESULT], phase="generate")
        return self._line(found, request, told, ts)

    def end(
        self,
        found: Conversation,
        request: OpenRequest,
        ts: float,
        outcome: str,
        *,
        error_type: str = "",
        status: int | None = None,
        timed: bool = True,
    ) -> bytes:
        """A request is over; `timed` if its time is known."""
        usage = request.usage
        cached = usage.cache_read_input_tokens
        new = usage.input_tokens
        details = usage.output_tokens_details
        known = new is not None
        end = t.RequestEnd(
            provider="",
            outcome=outcome,
            response_id=request.answer_id,
            model=request.model,
            finish_reasons=(request.stop_reason,) if request.stop_reason else (),
            input_tokens=(new or 0) + (cached or 0) + (usage.cache_creation_input_tokens or 0)
            if known
            else None,
            cached_tokens=cached if known else None,
            output_tokens=usage.output_tokens,
            reasoning_tokens=(details.thinking_tokens if details else None) or None,
            duration_s=max(0.0, round(ts - request.start_ts, 6)),
            status=status or 200,
            error_type=error_type,
            cache_tier=TIER if cached else "",
            cache_result="" if cached is None else "prefix" if cached else "miss",
            n_tool_calls=min(request.n_calls, MAX_COUNT),
        )
        unknown = [] if timed and request.start_known else ["duration_s"]
        if outcome != "ok" and status is None:
            unknown.append("status")
        return self._line(found, request, end, ts, unknown)


def _result(came: CameBack, call: tuple[str, float] | None) -> t.CallResult:
    name, called_ts = call or ("", None)
    return t.CallResult(
        name=name,
        call_id=came.call_id,
        failed=came.failed,
        result_bytes=came.n_bytes,
        elapsed_s=None if called_ts is None else max(0.0, round(came.ts - called_ts, 3)),
        text=came.text[:_MAX_RESULT] if came.failed else "",
    )
