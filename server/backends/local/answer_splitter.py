"""The splitter of one answer, by what was asked for; and where it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.prompt.renderer import Prompt
from mlxdeck.server.backends.local.scheduler.sequence import Done
from mlxdeck.server.backends.local.scheduler.sequence import Piece as Addition
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import ConstraintPlan
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.plain_text import PlainText
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import Piece
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import ChatRequest

LONG_CHARS = 16 * 1024
"""As long as so much is undecided, an answer is read beside the event loop: with the end of a
call, all of the call is."""


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


async def begin(splitter: Splitter, text: str) -> list[Piece]:
    """`Splitter.begin`, wherever it holds nobody up."""
    return await _run(splitter, partial(splitter.begin, text), len(text))


async def read(splitter: Splitter, chunk: Addition | Done) -> list[Piece]:
    """What is certain of an answer by now, read wherever it holds nobody up."""
    if isinstance(chunk, Done):
        return await _run(splitter, partial(splitter.close, complete=chunk.reason == "stop"))
    return await _run(splitter, partial(splitter.feed, chunk.text), len(chunk.text))


async def _run(
    splitter: Splitter, work: Callable[[], list[Piece]], n_chars: int = 0
) -> list[Piece]:
    if splitter.n_open_chars + n_chars <= LONG_CHARS:
        return work()
    return await asyncio.to_thread(work)
