"""How much of agents' calls a grammar forces: the part of their tokens that costs no pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import plan_constraint
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, ToolChoice, ToolSpec, ToolUse
from mlxdeck.server.schemas.normalization import tool_schema
from tests.corpora.example import Example

MAX_FORCED = 16
"""Tokens that are written at once."""


def forced_share(grammars: MlxGrammars, name: str, turns: Iterable[Example]) -> float:
    """That of all calls of these turns in a format, from where the grammar takes hold."""
    n_tokens = n_forced = 0
    for turn in turns:
        tools = tuple(
            ToolSpec(each["name"], "", tool_schema(each["input_schema"], "t"))
            for each in turn.request["tools"]
        )
        for block in turn.expected:
            if block["type"] == "tool_use":
                tokens, forced = _counted(grammars, name, tools, block)
                n_tokens, n_forced = n_tokens + tokens, n_forced + forced
    return n_forced / n_tokens


def _counted(
    grammars: MlxGrammars, name: str, tools: tuple[ToolSpec, ...], block: Mapping[str, Any]
) -> tuple[int, int]:
    """Tokens of a call, and how many of them cost no pass, if the model writes just this call.

    Behind a token that is not waited for, the first forced one is read by a pass of its own.
    """
    form = FORMATS[name]
    request = ChatRequest(
        *("m", (), (Message("user", (Text("Hi"),)),), Sampling(600), tools),
        ToolChoice("auto", parallel=False),
    )
    asked = plan_constraint(request, form, grammars).constraint
    assert asked is not None
    tool = next(each for each in tools if each.name == block["name"])
    order = tool.input_schema["properties"]
    values = {key: block["input"][key] for key in order if key in block["input"]}
    text = form.write_call(ToolUse("", tool.name, values), tool)
    vocabulary = grammars.vocabulary
    processor, left = grammars.processor(asked), text.encode()
    n_tokens = n_forced = 0
    is_known = False
    while left:
        forced = processor.forced(MAX_FORCED)
        n_forced += max(0, len(forced) - (not is_known))
        processor.mask(len(vocabulary.tokens))
        is_known = processor.is_narrow
        now = forced or vocabulary.encode(left)[:1]
        n_tokens += len(now) * processor.holds
        processor.saw(now)
        written = vocabulary.tokenizer.decode_bytes(now)
        assert left.startswith(written), (left, written)
        left = left[len(written) :]
    assert not processor.broken, processor.broken
    return n_tokens, n_forced
