"""Template and tokens of a model, over mlx-lm's wrapper. Holds no arrays: for any thread."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from mlxdeck.server.backends.local.engine.api import TemplateTraits, ToolMarkers
from mlxdeck.server.backends.local.engine.mlx.control_tokens import ControlTokens, encoding
from mlxdeck.server.backends.local.engine.mlx.template_clock import clock_formats
from mlxdeck.server.backends.local.engine.mlx.token_bounds import (
    TokenBounds,
    bounds_of,
    pieces,
)
from mlxdeck.server.backends.local.engine.models.model_folder import fit_to_load
from mlxdeck.server.checkpoints import checkpoint
from mlxdeck.server.errors import EngineFailed, one_line

# Templates are programs: any exception means that a template can't express the conversation.
_REFUSALS = (
    *(TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError),
    *(NotImplementedError, RecursionError, TypeError, ValueError),
)


class MlxTokenizer:
    """A `Tokenizer` over mlx-lm's wrapper."""

    def __init__(self, wrapper: Any, template: str = "") -> None:
        """`template` is used instead of the model's own, if it isn't empty."""
        if template:
            wrapper.chat_template = template
            # A renderer in Python, which some models have, would come before it.
            wrapper._chat_template = None
        self.wrapper = wrapper
        self.traits = traits(wrapper)
        self._control = ControlTokens(wrapper)

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
        except _REFUSALS as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"the chat template refuses this conversation: {reason}") from error

    @functools.cached_property
    def opening(self) -> str:
        """By what the tokenizer puts there itself, or else by how conversations begin."""
        found, bos = opening(self.wrapper), self.wrapper.bos_token
        if found or not bos:
            return found
        try:
            chat = self.render([{"role": "user", "content": "a"}], None, {})
        except ValueError:
            return ""
        return bos if chat.startswith(bos) else ""

    def is_control(self, text: str) -> bool:
        """Whether a text is the spelling of one control token."""
        return self._control.spells(text)

    def detokenizer(self, *, keeps_blank: bool) -> Any:
        """A new one; the library's drop a blank at the very beginning, unless it is to be kept."""
        found = self.wrapper.detokenizer
        if keeps_blank and "text" in vars(found):
            # What is no beginning is not trimmed.
            found.text, found.offset = " ", 1
        return found

    @functools.cached_property
    def _bounds(self) -> TokenBounds | None:
        backend = getattr(self.wrapper, "backend_tokenizer", None)
        return bounds_of(backend) if backend is not None else None

    def least_tokens(self, text: str) -> int:
        """By what the tokens of the vocabulary can hold at most."""
        return self._bounds.least(text) if self._bounds else 0

    def count(self, text: str, enough: int) -> int:
        """About how many tokens a text has, counted piece by piece."""
        n_tokens = 0
        for piece in pieces(text):
            checkpoint()
            n_tokens += self._length(piece)
            if n_tokens >= enough:
                break
        return n_tokens

    def _length(self, text: str) -> int:
        backend = getattr(self.wrapper, "backend_tokenizer", None)
        if backend is None:
            return len(self.encode(text))
        # Without places, and without lists, which are made under the interpreter's lock.
        return len(backend.encode_batch_fast([text], add_special_tokens=False)[0])

    def encode(self, text: str) -> list[int]:
        """Token ids; the template has already written every special token."""
        return self.encode_with_ends(text)[0]

    def encode_with_ends(self, text: str) -> tuple[list[int], Sequence[int]]:
        """Token ids and where each ends; only fast tokenizers know the latter."""
        backend = getattr(self.wrapper, "backend_tokenizer", None)
        if backend is None:
            return list(self.wrapper.encode(text, add_special_tokens=False)), ()
        encoded = encoding(backend, text)
        return list(encoded.ids), [end for _, end in encoded.offsets]

    def control_texts(self, tokens: Sequence[int], text: str = "") -> list[str]:
        """The texts of the control tokens among these, the longest first."""
        return self._control.among(tokens, text)

    def encode_apart(
        self, text: str, spans: Sequence[tuple[int, int]]
    ) -> tuple[list[int], Sequence[int]]:
        """Token ids and ends of a text in which only these places are control tokens."""
        return self._control.encode(text, spans)


def opening(wrapper: Any) -> str:
    """The control tokens that a tokenizer puts in front of a text by itself, as text."""
    bare = list(wrapper.encode("a", add_special_tokens=False))
    full = list(wrapper.encode("a"))
    n_added = len(full) - len(bare)
    if n_added <= 0 or full[n_added:] != bare:
        return ""
    return "".join(wrapper.convert_ids_to_tokens(full[:n_added]))


def load_tokenizer(folder: Path, template: str) -> MlxTokenizer:
    """The tokenizer of a model's folder, without its weights.

    Raises:
        EngineFailed: It can't be loaded.
    """
    from mlx_lm.tokenizer_utils import load

    with fit_to_load(folder) as fit:
        try:
            wrapper = load(fit.path)
        # Each library fails in its own manner on a bad tokenizer.
        except Exception as error:
            raise EngineFailed(f"cannot load the tokenizer: {one_line(error)}") from error
    return MlxTokenizer(wrapper, read_template(template))


def read_template(file: str) -> str:
    """The chat template in a file; empty if there is no file.

    Raises:
        EngineFailed: It can't be read.
    """
    try:
        return Path(file).expanduser().read_text(encoding="utf-8") if file else ""
    except (OSError, ValueError) as error:
        raise EngineFailed(f"cannot read the chat template {file}: {error}") from error


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
    """Find the template's abilities in its source."""
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
