"""What a request asks for, as the event `request.start` says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.observe.agents import AgentNames
from mlxdeck.server.observe.captured_content import HASH_DIGITS, as_json, last_user_text
from mlxdeck.server.observe.sent_calls import NewResult, n_untold
from mlxdeck.server.request_facts import Accepted
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.attributes import MAX_COUNT

SAMPLED = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)
"""Fields of `Sampling` that are recorded unchanged."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request before its body is read."""

    request_id: str
    dialect: str
    body_bytes: int
    trace_parent: str = ""
    """The client's span, as its header `traceparent` names it."""

    def unread(self, model: str, names: AgentNames) -> t.RequestStart:
        """The start of a request whose body could not be read, but for the names in it."""
        return t.RequestStart(
            model=model,
            dialect=self.dialect,
            conversation_id=names.session_id,
            agent_id=names.agent_id,
            parent_agent_id=names.parent_id,
            agent_name=names.name,
            body_bytes=self.body_bytes,
            trace_parent=self.trace_parent,
        )


def request_start(
    arrival: Arrival,
    accepted: Accepted,
    names: AgentNames,
    came: Sequence[NewResult],
    *,
    capture: str,
) -> t.RequestStart:
    """The start of a request that was read, by whom, and with which new results of tools."""
    request, parts, full = accepted.request, accepted.parts, capture == "full"
    sampling = request.sampling
    untold = n_untold(accepted.asked or request) if came else None
    return t.RequestStart(
        model=request.model,
        dialect=arrival.dialect,
        stream=request.stream,
        **{name: getattr(sampling, name) for name in SAMPLED},
        n_biased_tokens=len(sampling.logit_bias),
        stop_sequences=sampling.stop_sequences if full else (),
        conversation_id=names.session_id,
        agent_id=names.agent_id,
        parent_agent_id=names.parent_id,
        agent_name=names.name,
        agent_task=names.task if capture != "off" else "",
        body_bytes=arrival.body_bytes,
        trace_parent=arrival.trace_parent,
        n_messages=min(len(request.messages), MAX_COUNT),
        n_tools=len(request.tools),
        tool_names=tuple(tool.name for tool in request.tools),
        tool_choice=request.tool_choice.mode,
        forced_tool=request.tool_choice.name,
        one_call=not request.tool_choice.parallel,
        thinking=request.thinking,
        thinking_tokens=request.thinking_tokens,
        answer_format="json_schema" if request.answer_schema else "text",
        answer_schema=as_json(request.answer_schema) if full and request.answer_schema else "",
        queue_depth=accepted.queued,
        removed=accepted.removed,
        removed_parts=accepted.removed_parts,
        history_notes=request.history_notes,
        regrouped=accepted.regrouped,
        system_hash=parts.system[:HASH_DIGITS],
        tools_hash=parts.tools[:HASH_DIGITS],
        message_hashes=tuple(digest[:HASH_DIGITS] for digest in parts.messages),
        n_failed_results=sum(result.failed for result in came) if came else None,
        n_untold_results=untold,
        last_user_text=last_user_text(request) if full else "",
    )
