"""Events of tools: what the model calls, and what comes of it."""

from __future__ import annotations

from mlxdeck.telemetry.schema.attributes import Amount, Attrs, Seconds, always, named


class ToolCall(Attrs, frozen=True, kw_only=True):
    """The model called a tool, or tried to."""

    NAME = "tool_call"

    name: str = named("gen_ai.tool.name", "")
    """Tool that is called; empty of what could not be read."""
    call_id: str = named("gen_ai.tool.call.id", "")
    """Name of the call; the client's next request gives its result by it."""
    type: str = named("gen_ai.tool.type", "function")
    """OpenTelemetry's type of tool."""
    index: Amount | None = named("mlx.tool.index", None)
    """Which call of the answer it is, from 0."""
    parser: str = named("mlx.tool.parser", "")
    """Format that the call was written in."""
    parse_ok: bool = always(True, "mlx.tool.parse_ok")
    """Whether it could be read as a call."""
    parse_error: str = named("mlx.tool.parse_error", "")
    """Why it could not."""
    repaired: bool | None = named("mlx.tool.repaired", None)
    """Whether its JSON was repaired."""
    constrained: bool | None = named("mlx.tool.constrained", None)
    """Whether decoding was constrained to the tool's schema."""
    unconstrained: str = named("mlx.tool.unconstrained", "")
    """Why decoding could not be constrained to the schemas; empty if it was, or need not be."""
    schema_valid: bool | None = named("mlx.tool.schema_valid", None)
    """Whether the arguments conform to it; absent where that was not judged."""
    arguments_bytes: Amount | None = named("mlx.tool.arguments_bytes", None)
    """Size of the arguments."""
    arguments_hash: str = named("mlx.tool.arguments_hash", "")
    """First 12 hex digits of their sha256."""
    arguments: str = named("gen_ai.tool.call.arguments", "")
    """The arguments as JSON text; with `--capture off`, empty."""


class CallResult(Attrs, frozen=True, kw_only=True):
    """A request brings the result of a call, for the first time."""

    NAME = "tool_result"

    name: str = named("gen_ai.tool.name", "")
    """Tool that was called; empty if the conversation holds no such call."""
    call_id: str = named("gen_ai.tool.call.id", "")
    """Name of the call, as `tool_call` has it."""
    failed: bool = always(False, "mlx.tool.failed")
    """Whether the client says that it failed."""
    result_bytes: Amount = always(0, "mlx.tool.result_bytes")
    """Size of the result's text."""
    elapsed_s: Seconds | None = named("mlx.tool.elapsed_s", None)
    """Seconds since the call was sent: the tool's time, and its user's, who may have been asked.
    Absent if the call was another server's."""
    text: str = named("gen_ai.tool.call.result", "")
    """The beginning of what a failed tool says; empty of others, and with `--capture off`."""
