"""How families of models are asked to fill a gap in a text: pure values.

A family is known by its tokens, which no other vocabulary has. Each form is the one that the
authors of its models document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Span = tuple[int, int]
"""First character, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class FillInMiddle:
    """Control tokens around the two texts, in the order in which the model reads them."""

    prefix: str
    suffix: str
    middle: str = ""
    """Behind both; empty if nothing is there."""
    suffix_first: bool = False
    ends: tuple[str, ...] = ()
    """Tokens with which such a model ends the middle, beside the end of its answers."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Those that the vocabulary has to have."""
        return tuple(filter(None, (self.prefix, self.suffix, self.middle)))

    def written(self, before: str, after: str) -> tuple[str, list[Span]]:
        """The prompt, and the places of its control tokens."""
        parts = [(self.prefix, before), (self.suffix, after)]
        if self.suffix_first:
            parts.reverse()
        text, spans = "", []
        for token, content in [*parts, (self.middle, "")]:
            if token:
                spans.append((len(text), len(text) + len(token)))
            text += token + content
        return text, spans


_FILES = ("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>")
FORMS = (
    # Qwen, CodeGemma, Yi, Granite 4.
    FillInMiddle("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", ends=_FILES),
    # StarCoder, Granite, Stable Code, MiniMax.
    FillInMiddle(
        *("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ends=(
            "<|endoftext|>",
            "<fim_pad>",
            "<repo_name>",
            "<reponame>",
            "<file_sep>",
            "<filename>",
        ),
    ),
    # SantaCoder.
    FillInMiddle(
        "<fim-prefix>", "<fim-suffix>", "<fim-middle>", ends=("<|endoftext|>", "<fim-pad>")
    ),
    # DeepSeek names the place of the gap, not of the texts.
    FillInMiddle(
        *("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), ends=("<|EOT|>", "<|eos_token|>")
    ),
    # Code Llama; its tokens hold the blanks.
    FillInMiddle("▁<PRE>", "▁<SUF>", "▁<MID>", ends=("▁<EOT>",)),
    # GLM and CodeGeeX.
    FillInMiddle("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", ends=("<|endoftext|>",)),
    # Seed Coder.
    FillInMiddle("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", suffix_first=True),
    # Codestral.
    FillInMiddle("[PREFIX]", "[SUFFIX]", suffix_first=True),
)


def form_of(knows: Callable[[str], bool]) -> FillInMiddle | None:
    """The form whose tokens a vocabulary has; `knows` tells whether it has one."""
    return next((form for form in FORMS if all(map(knows, form.tokens))), None)
