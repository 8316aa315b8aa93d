"""Template and tokens of a model, over mlx-lm's wrapper. Holds no arrays: for the prompt thread."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from mlxdeck.server.engine import TemplateTraits, ToolMarkers
from mlxdeck.server.engine.template_clock import clock_formats


class MlxTokenizer:
    """A `Tokenizer` over mlx-lm's wrapper."""

    def __init__(self, wrapper: Any) -> None:
        self.wrapper = wrapper
        self.traits = traits(wrapper)

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str:
        """Apply the chat template."""
        try:
            return str(
                self.wrapper.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=True, **options
                )
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise ValueError(f"the chat template refuses this conversation: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Token ids; the template has already written every special token."""
        return list(self.wrapper.encode(text, add_special_tokens=False))

    def encode_with_ends(self, text: str) -> tuple[list[int], Sequence[int]]:
        """Token ids and where each ends; only fast tokenizers know the latter."""
        backend = getattr(self.wrapper, "backend_tokenizer", None)
        if backend is None:
            return self.encode(text), ()
        encoded = backend.encode(text, add_special_tokens=False)
        return list(encoded.ids), [end for _, end in encoded.offsets]


THINK_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Thinking in models that the library doesn't know to think; looked for in the template."""


def traits(wrapper: Any) -> TemplateTraits:
    """Read off the template what it can express."""
    template = wrapper.chat_template
    source = template if isinstance(template, str) else json.dumps(template or "")
    markers = None
    if wrapper.has_tool_calling:
        parse = wrapper.tool_parser
        markers = ToolMarkers(
            name=parse.__module__.rsplit(".", 1)[-1],
            start=wrapper.tool_call_start,
            end=wrapper.tool_call_end,
            parse=parse,
        )
    shown = ((start, end) for start, end in THINK_TAGS if start in source and end in source)
    think_start, think_end = next(shown, ("", ""))
    return TemplateTraits(
        has_tools="tools" in source,
        has_thinking=bool(wrapper.has_thinking or think_start),
        think_start=wrapper.think_start or think_start,
        think_end=wrapper.think_end or think_end,
        tool_markers=markers,
        source=source,
        clock_formats=clock_formats(template),
    )
