"""The seam between prompts and a model's own text: its chat template and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ToolMarkers:
    """How the loaded model writes tool calls, as far as its library knows."""

    name: str
    start: str
    end: str
    """Empty for a call that only the end of the answer closes."""
    parse: Callable[[str, list[dict[str, Any]]], Any]
    """(text between the markers, tools in OpenAI's shape) -> one call or a list of them."""


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """The abilities of a chat template."""

    has_tools: bool = False
    has_thinking: bool = False
    think_start: str = ""
    think_end: str = ""
    tool_markers: ToolMarkers | None = None
    source: str = field(default="", repr=False)
    """The template's own text."""
    clock_formats: tuple[str, ...] = ()
    """The `strftime` format in which it prints local time; the prompt changes with it."""


class Tokenizer(Protocol):
    """Template and tokens. Plain CPU work, safe from several threads."""

    @property
    def traits(self) -> TemplateTraits:
        """The abilities of the template."""

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str:
        """Apply the chat template, ending where the assistant's answer begins.

        Raises:
            ValueError: The template refuses these messages.
        """

    @property
    def opening(self) -> str:
        """What stands in front of a text that no template was applied to; often empty."""

    def is_control(self, text: str) -> bool:
        """Whether a text is the spelling of one control token."""

    def least_tokens(self, text: str) -> int:
        """A lower bound of a text's number of tokens, computed without encoding it.

        0 if the tokenizer knows no bound.
        """

    def count(self, text: str, enough: int) -> int:
        """About how many tokens a long text has: of its pieces, and no further than `enough`."""

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text; special tokens in it count as such."""

    def encode_with_ends(self, text: str) -> tuple[list[int], Sequence[int]]:
        """The tokens, and for each token the number of characters up to its end.

        The second is empty if the tokenizer doesn't report it.
        """

    def control_texts(self, tokens: Sequence[int], text: str = "") -> list[str]:
        """The texts of those tokens that steer the model, each once, the longest first.

        With a text, also of those that it spells.
        """

    def encode_apart(
        self, text: str, spans: Sequence[tuple[int, int]]
    ) -> tuple[list[int], Sequence[int]]:
        """Like `encode_with_ends`, but only these places of a text become control tokens.

        Each is the place of one of `control_texts`. Anything else that looks like one is ordinary
        text.
        """
