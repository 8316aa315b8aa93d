"""Follows one request through the server, and records it in events.

However the request ends, `close` emits exactly one `request.end`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from mlxdeck.server.chat import (
    ChatRequest,
    Event,
    Finished,
    Ping,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    Usage,
)
from mlxdeck.server.errors import Cancelled, ServerError
from mlxdeck.server.joined_events import JoinedEvents
from mlxdeck.server.joined_text import JoinedText
from mlxdeck.server.observe.agents import AgentNames, Agents
from mlxdeck.server.observe.call_event import call_event
from mlxdeck.server.observe.captured_content import answer, parts_of
from mlxdeck.server.observe.lookup_event import DIGITS, lookup_event
from mlxdeck.server.observe.progress_reports import (
    TAIL_CHARS,
    ProgressReports,
    as_told,
    progress_elsewhere,
    progress_of,
)
from mlxdeck.server.observe.request_log import RequestLog
from mlxdeck.server.observe.request_start import Arrival, request_start
from mlxdeck.server.observe.sent_calls import SentCalls
from mlxdeck.server.observe.totals import Totals
from mlxdeck.server.request_facts import (
    Accepted,
    BackendChosen,
    BadCall,
    Digests,
    FirstTokenDrawn,
    Forwarded,
    LookedUp,
    Miss,
    ModelText,
    Prepared,
    StreamItem,
)
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.attributes import MAX_COUNT
from mlxdeck.telemetry.write.emitter import Emitter
from mlxdeck.telemetry.write.records import Late, Part, made_of

# Client closed the connection: nginx's code, the one that log readers know.
STATUS_CANCELLED = 499
NOT_ASKED = ("disabled", "bypassed")
"""Reasons of a miss where no cache was looked in."""
PROVIDER = "mlx"
"""OpenTelemetry's name of a model that runs here."""
MAX_MESSAGE = 10_000
"""Characters of an error that are looked at; fewer are kept."""


@dataclass(slots=True)
class Trace:
    """One request as telemetry sees it."""

    emitter: Emitter
    totals: Totals
    model: str
    capture: str
    arrival: Arrival
    log: RequestLog | None = None
    agents: Agents = field(default_factory=Agents)
    calls: SentCalls = field(default_factory=SentCalls)
    session_id: str = ""
    backend: str = ""
    """The backend that was chosen last, by its name in the settings."""
    _began_s: float = field(default_factory=time.monotonic)
    _started: bool = False
    _ended: bool = False
    _cache_result: str = ""
    _cache_tier: str = ""
    _cache_s: float | None = None
    _miss: Miss = Miss()
    _ttft_s: float | None = None
    _usage: Usage | None = None
    _finish: Finished | None = None
    _error: ServerError | None = None
    _prepared: Prepared | None = None
    _forwarded: Forwarded | None = None
    _said: JoinedEvents = field(default_factory=JoinedEvents)
    _call: ToolCallStart | None = None
    _arguments: JoinedText = field(default_factory=JoinedText)
    _n_tool_calls: int = 0
    _n_chars: int = 0
    """Of the answer, its thinking and the arguments of its calls."""
    _fell_back_from: str = ""
    _fallback_reason: str = ""
    _names: AgentNames = AgentNames()
    _read: ChatRequest | None = None
    _reports: ProgressReports = field(init=False)

    def __post_init__(self) -> None:
        self._reports = ProgressReports(self._report, self._emit)

    def saw(self, event: StreamItem) -> None:
        """Something happened to the request, or goes out to its client."""
        if self.log and not self._ended:
            self.log.saw(event)
        match event:
            case BackendChosen():
                self._chosen(event)
            case Accepted():
                self._accepted(event)
            case LookedUp():
                self._looked_up(event)
            case Prepared():
                self._prepared = event
                self._usage = Usage(event.prompt_tokens, event.cached_tokens)
            case Forwarded():
                self._forwarded = event
                self.model = event.model
            case FirstTokenDrawn():
                self._first_token()
            case BadCall():
                self._bad_call(event)
            case ModelText():
                pass
            case _:
                self._answered(event)

    @property
    def is_replay(self) -> bool:
        """Whether the answer was stored, so that all of it is there at once."""
        return self._cache_result == "exact" and self._cache_tier != "flight"

    def progress(self) -> dict[str, Any]:
        """How far the request is, and since when; empty before it is decoded."""
        return as_told(self._progress()) if self._started else {}

    def _progress(self) -> t.RequestProgress:
        if self._prepared:
            return progress_of(self._prepared, self._n_chars)
        since_s = self._began_s + (self._ttft_s or 0.0)
        return progress_elsewhere(since_s, self._usage, self._n_chars, self._waits_for)

    def _report(self) -> t.RequestProgress:
        """The same with the end of what is written, for telemetry alone."""
        now, text = self._progress(), self._said.tail(TAIL_CHARS)
        return msgspec.structs.replace(now, text=text) if text else now

    @property
    def _waits_for(self) -> str:
        if self._forwarded:
            return f"the upstream {self.backend}"
        is_joined = self._cache_tier == "flight"
        return "another request, which is the same" if is_joined else ""

    def _chosen(self, chosen: BackendChosen) -> None:
        self.backend = chosen.backend
        self.model = chosen.model or self.model
        if chosen.fell_back_from != self._fell_back_from:
            self._fell_back_from, self._fallback_reason = chosen.fell_back_from, chosen.reason
            # Nothing that the other backend did is in a figure of this answer.
            self._prepared = self._forwarded = None
            self._n_chars = 0
            self._usage = self._ttft_s = self._cache_s = None
            self._cache_result = self._cache_tier = ""
            self._miss = Miss()
            self._said.clear()

    def _accepted(self, accepted: Accepted) -> None:
        full, asked = self.capture == "full", accepted.asked or accepted.request
        self._names = names = self.agents.who(asked)
        self.session_id = names.session_id
        came = self.calls.results(names.session_id, asked)
        about = (self.arrival, accepted, names, came)
        start = partial(request_start, *about, capture=self.capture)
        n_bytes = self.arrival.body_bytes
        self._start(start, parts_of(accepted.request, accepted.parts) if full else (), n_bytes)
        for result in came:
            event = partial(result.event, text=self.capture != "off")
            self._emit(event, held_bytes=len(result.result.text))
        self._reports.follow(self._began_s)

    def _looked_up(self, found: LookedUp) -> None:
        self._miss = miss = found.miss
        if found.tier:
            self._cache_result, self._cache_tier = found.cache, found.tier
        elif miss.reason not in NOT_ASKED:
            self._cache_result = self._cache_result or "miss"
        if miss.reason not in NOT_ASKED:
            self._cache_s = (self._cache_s or 0.0) + found.duration_s
        self._emit(lookup_event(found))

    def _first_token(self) -> None:
        if self._prepared is None or self._usage is None:
            return
        times, usage = self._prepared.work.times, self._usage
        self._ttft_s = times.first_token_s - self._began_s
        self._emit(
            t.FirstToken(
                ttft_s=round(self._ttft_s, DIGITS),
                queue_s=round(times.queue_s, DIGITS),
                load_s=_rounded(times.load_s or None),
                tokenize_s=round(self._prepared.tokenize_s, DIGITS),
                cache_s=round(self._cache_s or 0.0, DIGITS),
                prefill_s=round(times.prefill_s, DIGITS),
                prefill_tokens=(usage.input_tokens or 0) - (usage.cached_tokens or 0),
            )
        )

    def _answered(self, event: Event) -> None:
        if not self._prepared and self._ttft_s is None and not isinstance(event, Started | Ping):
            self._ttft_s = time.monotonic() - self._began_s
        elif isinstance(event, Started) and self._forwarded:
            self._usage = event.usage
        if self.capture == "full":
            self._said.add(event)
        if isinstance(event, TextDelta | ThinkingDelta):
            self._n_chars += len(event.text)
        if isinstance(event, ToolCallStart):
            self._call, self._arguments = event, JoinedText()
        elif isinstance(event, ToolCallDelta):
            self._arguments.add(event.json)
            self._n_chars += len(event.json)
        elif isinstance(event, ToolCallEnd):
            self._tool_call(event)
        elif isinstance(event, Finished):
            self._finish = event
            self._usage = event.usage

    def _bad_call(self, bad: BadCall) -> None:
        """Something that began like a call was none, and went out as text."""
        self.totals.bad_tool_calls += 1
        self._emit(
            t.ToolCall(
                index=self._n_tool_calls,
                parser=bad.format,
                parse_ok=False,
                parse_error=bad.error,
                arguments_bytes=bad.n_bytes,
                arguments_hash=bad.digest,
            )
        )

    def failed(self, error: ServerError, phase: str) -> None:
        """The request ends in an error."""
        if not self._started:
            self._refused()
        if isinstance(error, Cancelled):
            # As if its client had left.
            return
        self._error = error
        self._emit(
            t.Error(
                error_type=error.kind,
                message=error.message[:MAX_MESSAGE],
                phase=phase,
                retryable=error.retryable,
            )
        )

    def read(self, request: ChatRequest) -> None:
        """The request was decoded. A backend may still refuse it."""
        self._read = request

    def unread(self, model: str, names: AgentNames) -> None:
        """Its body is refused; so much is known of it all the same."""
        self.session_id = names.session_id
        self._start(self.arrival.unread(model, names))

    def _refused(self) -> None:
        if self._read is None:
            self.unread("", AgentNames())
            return
        self._names = names = self.agents.who(self._read)
        self.session_id = names.session_id
        accepted = Accepted(self._read, Digests("", "", ()), (), (), None)
        self._start(request_start(self.arrival, accepted, names, (), capture=self.capture))

    def close(self) -> None:
        """End the trace; without `finished` or `failed` before, the client has left."""
        if self._ended or not self._started:
            return
        if self._said:
            self._emit(partial(answer, self._said), held_bytes=self._n_chars)
        self._ended = True
        self._reports.stop()
        end = self._end()
        self.totals.ended(self.arrival.dialect, end, bool(self._prepared or self._forwarded))
        self._emit(end)

    def _end(self) -> t.RequestEnd:
        """The figures of a request that is over; unknown ones are None."""
        outcome, status = self._outcome()
        usage, prepared, finish = self._usage, self._prepared, self._finish
        work = prepared.work if prepared else None
        times = work.times if work else None
        # Without `Finished`, the tokens that were drawn all the same.
        n_output = work.n_tokens if work else usage.output_tokens if usage and finish else None
        decode_s = times.decode_s if times and times.first_token_s else None
        if self._forwarded and finish and self._ttft_s is not None:
            decode_s = time.monotonic() - self._began_s - self._ttft_s
        n_steps = (n_output or 0) - 1
        per_token_s = decode_s / n_steps if decode_s is not None and n_steps > 0 else None
        return t.RequestEnd(
            provider=self._forwarded.provider if self._forwarded else PROVIDER,
            outcome=outcome,
            response_id=self.arrival.request_id,
            model=self.model,
            finish_reasons=(finish.reason,) if finish else (),
            input_tokens=usage.input_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            output_tokens=n_output,
            reasoning_tokens=usage.reasoning_tokens if usage else None,
            forced_tokens=(work.forced_tokens or None) if work else None,
            drafted_tokens=(work.drafted_tokens or None) if work else None,
            accepted_tokens=work.accepted_tokens if work and work.drafted_tokens else None,
            duration_s=round(time.monotonic() - self._began_s, DIGITS),
            ttft_s=_rounded(self._ttft_s),
            time_per_output_token_s=_rounded(per_token_s),
            status=status,
            error_type=self._error.kind if self._error else "",
            cache_result=self._cache_result,
            cache_tier=self._cache_tier,
            miss_reason=self._miss.reason,
            diverged_block=self._miss.part,
            queue_s=_rounded(times.queue_s if times else None),
            load_s=_rounded((times.load_s or None) if times else None),
            tokenize_s=_rounded(prepared.tokenize_s if prepared else None),
            cache_s=_rounded(self._cache_s),
            prefill_s=_rounded(times.prefill_s if times and times.admitted_s else None),
            decode_s=_rounded(decode_s),
            n_tool_calls=min(self._n_tool_calls, MAX_COUNT),
            ended_by=finish.ended_by if finish else "",
            let_go=work.let_go if work else "",
            answer_loosened=prepared.loose.get("", "") if prepared else "",
            backend=self.backend,
            fell_back_from=self._fell_back_from,
            fallback_reason=self._fallback_reason,
        )

    def _tool_call(self, end: ToolCallEnd) -> None:
        if (call := self._call) is None:
            return
        self.totals.called(repaired=end.repaired)
        prepared = self._prepared
        refused = prepared.unconstrained or prepared.loose.get(call.name) if prepared else ""
        self.calls.sent(self.session_id, call.id)
        self.agents.called(call.name, self._arguments, self._names)
        event = partial(call_event, call, self._arguments, end, unconstrained=refused or "")
        event = partial(event, index=self._n_tool_calls, captured=self.capture != "off")
        self._emit(event, held_bytes=self._arguments.n_chars)
        self._n_tool_calls += 1

    def _outcome(self) -> tuple[str, int]:
        if self._error:
            return "error", self._error.status
        return ("ok", 200) if self._finish else ("cancelled", STATUS_CANCELLED)

    def _start(
        self, event: t.Attrs | Late, parts: Iterable[Part] = (), held_bytes: int = 0
    ) -> None:
        self._started = True
        self._emit(event, parts, held_bytes)

    def _emit(self, attrs: t.Attrs | Late, parts: Iterable[Part] = (), held_bytes: int = 0) -> None:
        if self._ended and not isinstance(attrs, t.RequestEnd):
            # Other requests may still follow a generation whose first client has left.
            return
        if self.log and (made := made_of(attrs) if callable(attrs) else attrs) is not None:
            self.log.emitted(made)
            attrs = made
        self.emitter.emit(attrs, self.arrival.request_id, self.session_id, parts, held_bytes)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, DIGITS)
