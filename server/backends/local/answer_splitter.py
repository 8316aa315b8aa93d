"""The splitter of one answer, by what was asked for."""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.prompt.renderer import Prompt
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import ConstraintPlan
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.plain_text import PlainText
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import ChatRequest


def answer_splitter(
    chat: ChatRequest,
    prompt: Prompt,
    plan: ConstraintPlan,
    traits: TemplateTraits,
    tool_format: ToolFormat,
    *,
    loop_guard: bool,
) -> Splitter:
    """What turns the model's text into events; of a raw prompt's answer, all is text."""
    stops = (*chat.sampling.stop_sequences, *prompt.ends)
    if chat.raw:
        return PlainText(stops)
    return Splitter(
        Markers(traits.think_start, traits.think_end, stops),
        tool_format,
        chat.tools,
        thinking=prompt.in_thinking,
        constrained=plan.constraint is not None,
        parallel=chat.tool_choice.parallel,
        shows_thinking=chat.thinking is not False,
        loose=plan.loose,
        loop_guard=loop_guard,
    )
