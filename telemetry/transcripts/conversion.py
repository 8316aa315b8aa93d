"""Transcripts become events of requests, line by line. Pure; for one thread.

Tokens, tools, results and errors are what the transcript says. A request's time runs from the
line that announces it, or else from the message that it answers, to the last block of its answer.
It is unknown where neither is there. Phases, queues and first tokens are never known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mlxdeck.telemetry.transcripts.conversation_state import CameBack, Conversation, OpenRequest
from mlxdeck.telemetry.transcripts.event_lines import EventLines, KnownShape
from mlxdeck.telemetry.transcripts.message_blocks import (
    as_json,
    blocks_of,
    is_interruption,
    shortened,
    text_of,
    user_text,
)
from mlxdeck.telemetry.transcripts.transcript_lines import Params, TranscriptLine, TranscriptMessage

SETTLED_S = 3.0
"""An answer is over if for so long no block has followed its last one."""
LOST_S = 3700.0
"""A request without an answer is over after so long: `mlxdeck claude` has it wait for an hour."""
_SYNTHETIC = "<synthetic>"
"""The model of what the client itself says in the model's place."""
CANCELLED = 499
_STATUS = re.compile(r"API Error: (\d{3})\b")
_STARTING = ("Task", "Agent")
"""Tools that start an agent."""


class Conversion:
    """What is known of all transcripts that belong together."""

    def __init__(self) -> None:
        self._conversations: dict[tuple[str, str], Conversation] = {}
        self._open: dict[tuple[str, str], Conversation] = {}
        """Those with an open request."""
        self._owners: dict[str, tuple[str, str]] = {}
        """Whose each answer is: transcripts that were resumed or forked repeat earlier ones."""
        self._callers: dict[str, str] = {}
        """The agent that made each call which starts another one."""
        self._calls: dict[str, tuple[str, float]] = {}
        """Tool and time of calls without a result."""
        self._shapes: dict[str, KnownShape] = {}
        self._sidechains: dict[str, str] = {}
        """By a line's name: the agent, in versions that gave it none."""
        self._events = EventLines()

    def introduce(self, session: str, agent: str, kind: str, task: str, call_id: str) -> None:
        """Tell of an agent what lies beside its transcript."""
        found = self._conversation(session, agent)
        found.kind, found.task, found.started_by = kind, task, call_id

    def take(self, line: TranscriptLine) -> Iterator[bytes]:
        """The events of the next line."""
        ts = line.ts
        if line.type == "api-request-shape":
            if line.shape and line.shape_hash and line.shape_hash not in self._shapes:
                self._shapes[line.shape_hash] = KnownShape.of(line.shape)
        elif ts is not None and line.session:
            found = self._conversation(line.session, self._agent(line))
            yield from self._in(found, line, ts)

    def _in(self, found: Conversation, line: TranscriptLine, ts: float) -> Iterator[bytes]:
        if line.type == "api-request" and line.id:
            yield from self._announce(found, line, line.id, ts)
        elif line.type == "assistant" and line.message:
            if line.is_api_error:
                yield from self._fail(found, line, ts)
            elif line.message.model != _SYNTHETIC:
                yield from self._answer(found, line, line.message, ts)
        elif line.type == "user" and line.message:
            yield from self._ask(found, line, line.message, ts)
        elif line.type == "system" and line.subtype == "api_error":
            yield from self._fail(found, line, ts)
        elif line.type == "system" and line.subtype == "compact_boundary":
            found.forget_messages()

    def settle(self, now_ts: float) -> Iterator[bytes]:
        """End what has gone quiet by now."""
        for found in list(self._open.values()):
            request = found.open
            quiet_s = now_ts - request.last_ts if request else 0.0
            if request and request.answer_id and quiet_s > SETTLED_S:
                yield from self._end(found, request)
                if quiet_s > LOST_S:
                    found.ended = None
            elif request and quiet_s > LOST_S:
                yield from self._close(found, request, request.last_ts, "cancelled")

    def _conversation(self, session: str, agent: str) -> Conversation:
        if (session, agent) not in self._conversations:
            self._conversations[session, agent] = Conversation(session, agent)
        return self._conversations[session, agent]

    def _agent(self, line: TranscriptLine) -> str:
        if line.agent or not line.is_sidechain:
            return line.agent or ""
        # Earlier versions: each task is a tree of lines of its own.
        name = self._sidechains.get(line.parent_uuid or "") or f"task-{(line.uuid or '')[:8]}"
        if line.uuid:
            self._sidechains[line.uuid] = name
        return name

    def _is_own(self, found: Conversation, name: str) -> bool:
        return self._owners.setdefault(name, found.key) == found.key

    def _announce(
        self, found: Conversation, line: TranscriptLine, name: str, ts: float
    ) -> Iterator[bytes]:
        """A request begins, of which it is known when."""
        if not self._is_own(found, name):
            return
        if (request := found.open) and request.answer_id:
            yield from self._end(found, request)
        elif request:
            # Nobody has written down what became of it; only whether it was asked again.
            again = line.base == request.name and not line.tail
            outcome, kind = ("error", "retried") if again else ("cancelled", "")
            yield from self._close(found, request, ts, outcome, kind)
        found.shape = line.shape_hash or found.shape
        found.params = line.params or Params()
        yield from self._begin(found, OpenRequest(name, ts, ts))

    def _begin(self, found: Conversation, request: OpenRequest) -> Iterator[bytes]:
        found.open, found.ended = request, None
        self._open[found.key] = found
        shape = self._shapes.get(found.shape)
        parent = self._callers.get(found.started_by, "")
        yield from self._events.start(found, request, shape, parent, self._calls)
        for came in found.results:
            self._calls.pop(came.call_id, None)
        found.unsent.clear()
        found.results.clear()

    def _begin_late(
        self, found: Conversation, line: TranscriptLine, name: str, model: str, ts: float
    ) -> Iterator[bytes]:
        """A request of which the first thing known is what came of it."""
        asked_ts = found.asked_ts
        if line.duration_ms is not None and line.duration_ms >= 0:
            asked_ts = ts - line.duration_ms / 1000
        known = asked_ts is not None and asked_ts <= ts
        start_ts = asked_ts if asked_ts is not None and known else ts
        name = line.request_ref or line.request_id or name
        request = OpenRequest(name, start_ts, ts, start_known=known, model=model)
        yield from self._begin(found, request)

    def _answer(
        self, found: Conversation, line: TranscriptLine, message: TranscriptMessage, ts: float
    ) -> Iterator[bytes]:
        """A block of an answer."""
        answer_id = message.id or line.request_id or line.uuid or ""
        if not self._is_own(found, answer_id):
            return
        if (request := found.open) and request.answer_id not in ("", answer_id):
            yield from self._end(found, request)
        if found.open is None and found.ended and found.ended.answer_id == answer_id:
            found.open = found.ended
            self._open[found.key] = found
        if found.open is None:
            yield from self._begin_late(found, line, answer_id, message.model or "", ts)
        request = found.open
        if request is None or (line.uuid or "") in request.lines:
            return
        request.lines.add(line.uuid or "")
        request.answer_id = answer_id
        request.model = message.model or request.model
        request.last_ts = max(ts, request.last_ts)
        request.stop_reason = message.stop_reason or request.stop_reason
        if message.usage:
            request.add_usage(message.usage)
        blocks = shortened(blocks_of(message.content))
        request.blocks += blocks
        for block in blocks:
            if block.get("type") == "tool_use":
                yield self._events.call(found, request, block, ts)
                self._note_call(found, request, block, ts)

    def _note_call(
        self, found: Conversation, request: OpenRequest, block: dict[str, Any], ts: float
    ) -> None:
        name, call_id = str(block.get("name") or ""), str(block.get("id") or "")
        request.n_calls += 1
        self._calls[call_id] = (name, ts)
        if name in _STARTING:
            self._callers[call_id] = found.agent

    def _ask(
        self, found: Conversation, line: TranscriptLine, message: TranscriptMessage, ts: float
    ) -> Iterator[bytes]:
        """A message to the model: of the user, of the client, or results of calls."""
        blocks = shortened(blocks_of(message.content))
        request = found.open
        if request and is_interruption(blocks):
            yield from self._close(found, request, ts, "cancelled", status=CANCELLED, timed=True)
        if line.parent_uuid is None:
            found.forget_messages()
        for block in blocks:
            if block.get("type") == "tool_result":
                text = text_of(block.get("content"))
                n_bytes = len(text.encode("utf-8", "replace"))
                call_id, failed = str(block.get("tool_use_id")), bool(block.get("is_error"))
                found.results.append(CameBack(call_id, failed, text, n_bytes, ts))
        if not line.is_meta and (said := user_text(blocks)):
            found.asked = said
        found.asked_ts = ts
        content, digest = as_json(blocks)
        found.add_message("user", digest, content)

    def _fail(self, found: Conversation, line: TranscriptLine, ts: float) -> Iterator[bytes]:
        """An attempt has failed, whether or not the client tries again."""
        error = line.error
        text = text_of(line.message.content) if line.message else ""
        status, kind = line.status, error if isinstance(error, str) else ""
        if isinstance(error, dict):
            status = error.get("status", status)
            text = text or str(error.get("message") or "")
        if not isinstance(status, int) and (said := _STATUS.search(text)):
            status = int(said[1])
        if found.open is None:
            yield from self._begin_late(found, line, line.uuid or "", "", ts)
        if request := found.open:
            kind = kind or "api_error"
            yield self._events.error(found, request, ts, kind, text)
            code = status if isinstance(status, int) and 100 <= status < 1000 else None
            yield from self._close(found, request, ts, "error", kind, status=code, timed=True)
        # How long the next attempt waits is not told.
        found.asked_ts = None

    def _end(self, found: Conversation, request: OpenRequest) -> Iterator[bytes]:
        """An answer is complete."""
        digest, content, line = self._events.answer(found, request)
        yield line
        if not request.told:
            request.told = True
            found.add_message("assistant", digest, content, told=True)
        yield self._events.end(found, request, request.last_ts, "ok")
        found.open, found.ended = None, request
        if found.asked_ts is not None and found.asked_ts <= request.last_ts:
            found.asked_ts = None
        self._open.pop(found.key, None)

    def _close(
        self,
        found: Conversation,
        request: OpenRequest,
        ts: float,
        outcome: str,
        error_type: str = "",
        *,
        status: int | None = None,
        timed: bool = False,
    ) -> Iterator[bytes]:
        """A request has ended without an answer, or within it."""
        if request.blocks:
            yield self._events.answer(found, request)[2]
        yield self._events.end(
            found, request, ts, outcome, error_type=error_type, status=status, timed=timed
        )
        found.open = found.ended = None
        self._open.pop(found.key, None)
