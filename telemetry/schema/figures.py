"""The one table of a request's figures: what decoding, columns, filters, exports and views hold.

A new figure is a field of its event in `events`, what sets it in the server, and a row here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlxdeck.telemetry.schema.events import Attrs, RequestEnd, RequestStart

Kind = Literal["seconds", "tokens", "count", "text", "list", "choice"]
"""Type of a figure.

`list` is several texts, stored as one; `choice` is a text of a closed set; `count` is a small
number.
"""
UNITS: Mapping[Kind, str] = {"seconds": "s", "tokens": "tokens"}
OPEN, OK, ERROR, CANCELLED, LOST = range(5)
OUTCOMES = ("open", "ok", "error", "cancelled", "lost")
"""`lost`: its server stopped without saying how it ended."""
NO_CACHE, MISS, PREFIX, EXACT = range(4)
CACHES = ("", "miss", "prefix", "exact")
UNKNOWN_NUMBER = -1
"""Unknown number in a column of whole numbers; columns of floats use NaN."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is known of a request."""

    name: str
    """Its column, in a store and in an exported table."""
    kind: Kind
    attribute: str
    """Its name in a line's `attrs`."""
    title: str
    """Its name for a person, beside its value."""
    about: str
    """Its description in the help of the filter language."""
    field: str = ""
    """Its name in the filter language; of several figures with one, any may match."""
    example: str = ""
    """A filter with it."""
    event: type[Attrs] = RequestEnd
    """The event that carries it."""
    omitted: float | str | None = None
    """Value of a line of 0.1 that omits it; None if the value is unknown then."""
    choices: tuple[str, ...] = ()
    """The closed set of a `choice`; the column holds places in it."""
    otherwise: int = 0
    """The place that any other text takes."""

    @property
    def unit(self) -> str:
        """Unit of its number; empty if it has none."""
        return UNITS.get(self.kind, "")

    @property
    def is_number(self) -> bool:
        """Whether it can be compared and added up."""
        return self.kind in ("seconds", "tokens", "count")

    @property
    def unknown(self) -> float:
        """What its column holds where it is not known."""
        if self.kind == "seconds":
            return math.nan
        return UNKNOWN_NUMBER if self.is_number else 0


FIGURES: tuple[Figure, ...] = (
    Figure(
        *("duration_s", "seconds", "gen_ai.server.request.duration", "total", "whole time"),
        field="latency",
        example="latency>2s",
        omitted=0.0,
    ),
    Figure(
        *("ttft_s", "seconds", "gen_ai.server.time_to_first_token", "first token"),
        about="time to the first token",
        field="ttft",
        example="ttft>500ms",
    ),
    Figure(
        *("tokenize_s", "seconds", "mlx.tokenize_s", "tokenize", "time to render the prompt"),
        omitted=0.0,
    ),
    Figure(
        *("cache_s", "seconds", "mlx.cache_s", "cache lookup", "time to look in the caches"),
        omitted=0.0,
    ),
    Figure(
        *("queue_s", "seconds", "mlx.queue_s", "queue", "time in the queue"),
        field="queue",
        example="queue>1s",
        omitted=0.0,
    ),
    Figure(
        *("load_s", "seconds", "mlx.load_s", "load", "wait for the model to be loaded again"),
        field="load",
        example="load>1s",
    ),
    Figure(
        *("prefill_s", "seconds", "mlx.prefill_s", "prefill", "time to read the prompt"),
        field="prefill",
        example="prefill>10s",
        omitted=0.0,
    ),
    Figure(
        *("decode_s", "seconds", "mlx.decode_s", "decode", "time to write the answer"),
        field="decode",
        example="decode<1m",
        omitted=0.0,
    ),
    Figure(
        *("input_tokens", "tokens", "gen_ai.usage.input_tokens", "prompt", "tokens of the prompt"),
        field="tokens_in",
        example="tokens_in>8k",
    ),
    Figure(
        *("output_tokens", "tokens", "gen_ai.usage.output_tokens", "answer"),
        about="tokens of the answer",
        field="tokens_out",
        example="tokens_out>=1",
        omitted=0,
    ),
    Figure(
        *("cached_tokens", "tokens", "gen_ai.usage.cache_read.input_tokens", "from cache"),
        about="tokens from cache",
        field="cached",
        example="cached>0",
        omitted=0,
    ),
    Figure(
        *("forced_tokens", "tokens", "mlx.held.forced_tokens", "forced"),
        about="tokens that the grammar forced",
        field="forced",
        example="forced>20",
    ),
    Figure(
        *("drafted_tokens", "tokens", "mlx.lookup.drafted_tokens", "guessed"),
        about="tokens that were guessed",
        field="guessed",
        example="guessed>100",
    ),
    Figure(
        *("accepted_tokens", "tokens", "mlx.lookup.accepted_tokens", "guessed right"),
        about="guessed tokens that were right",
        field="accepted",
        example="accepted>100",
    ),
    Figure(
        *("n_tool_calls", "count", "mlx.tool_calls", "tool calls", "number of tool calls"),
        field="tools",
        example="tools>1",
        omitted=0,
    ),
    Figure(
        *("status", "count", "http.response.status_code", "status", "HTTP status"),
        field="code",
        example="code=529",
        omitted=200,
    ),
    Figure(
        *("model", "text", "gen_ai.request.model", "model", "model it asked for, or got"),
        field="model",
        example="model:qwen",
        event=RequestStart,
    ),
    Figure(
        *("served", "text", "gen_ai.response.model", "served by", "model it got"),
        field="model",
    ),
    Figure(
        *("provider", "text", "gen_ai.provider.name", "provider", "who answered: mlx, or another"),
    ),
    Figure(
        *("tools_hash", "text", "mlx.hash.tools", "tools", "short hash of the tools"),
        event=RequestStart,
    ),
    Figure(
        *("max_tokens", "tokens", "gen_ai.request.max_tokens", "limit", "limit of the answer"),
        event=RequestStart,
    ),
    Figure(
        *("dialect", "text", "mlx.dialect", "API", "API that it asked"),
        field="dialect",
        example="dialect:anthropic",
        event=RequestStart,
    ),
    Figure(
        *("n_messages", "count", "mlx.messages", "messages", "messages of the conversation"),
        field="messages",
        example="messages>20",
        event=RequestStart,
    ),
    Figure(
        *("agent", "text", "gen_ai.agent.id", "agent", "the client's agent, or its parent"),
        field="agent",
        example="agent:a1",
        event=RequestStart,
    ),
    Figure(
        *("parent_agent", "text", "mlx.agent.parent_id", "parent agent"),
        about="the agent that started it",
        field="agent",
        event=RequestStart,
    ),
    Figure(
        *("agent_name", "text", "gen_ai.agent.name", "kind of agent", "the agent's kind"),
        field="agent",
        event=RequestStart,
    ),
    Figure(
        *("agent_task", "text", "gen_ai.agent.description", "task", "what the agent has to do"),
        field="agent",
        event=RequestStart,
    ),
    Figure(
        *("n_failed_results", "count", "mlx.tool.failed_results", "failed tools"),
        about="failed results that it brings",
        field="failed",
        example="failed>0",
        event=RequestStart,
    ),
    Figure(
        *("finish", "list", "gen_ai.response.finish_reasons", "finish", "why the answer ended"),
        field="finish",
        example="finish:max_tokens",
    ),
    Figure(
        *("ended_by", "text", "mlx.ended_by", "ended by", "what of the server ended the answer"),
    ),
    Figure(
        *("let_go", "text", "mlx.held.let_go", "left its grammar", "why it left its grammar"),
    ),
    Figure(
        *("error_type", "text", "error.type", "error", "type of its error"),
        field="error",
        example="error:overloaded",
    ),
    Figure(
        *("cache", "choice", "mlx.cache.result", "cache", "miss, prefix or exact"),
        field="cache",
        example="cache:exact",
        choices=CACHES,
        otherwise=NO_CACHE,
    ),
    Figure(
        *("tier", "text", "mlx.cache.tier", "tier", "where a hit lay: ram, disk"),
        field="tier",
        example="tier:disk",
    ),
    Figure(
        *("miss_reason", "text", "mlx.cache.miss_reason", "missed because"),
        about="why tokens were not in a cache",
        field="miss",
        example="miss:diverged",
    ),
    Figure(
        *("blame", "text", "mlx.cache.diverged_block", "block to blame"),
        about="part that was not as before",
        field="blame",
        example="blame:tools",
    ),
    Figure(
        *("backend", "text", "mlx.backend", "backend", "backend that answered"),
        field="backend",
        example="backend:local",
    ),
    Figure(
        *("fell_back_from", "text", "mlx.fallback.from", "instead of"),
        about="backend that did not answer before",
        field="fallback",
        example="fallback:local",
    ),
    Figure(
        *("fallback_reason", "text", "mlx.fallback.reason", "fell back because"),
        about="why another backend took over",
        field="fallback",
    ),
    Figure(
        *("outcome", "choice", "outcome", "outcome", "how it ended"),
        field="status",
        example="status:error",
        omitted="ok",
        choices=OUTCOMES,
        otherwise=OK,
    ),
)


def told_by(event: type[Attrs]) -> tuple[Figure, ...]:
    """The figures of one kind of event."""
    return tuple(figure for figure in FIGURES if figure.event is event)
