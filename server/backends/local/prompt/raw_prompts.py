"""Prompts without a chat template: a text that the model goes on with, or a gap that it fills.

In a text alone, control tokens are what they spell: it stands for the whole prompt. In texts around
a gap they are text, as in a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import Tokenizer
from mlxdeck.server.backends.local.prompt.fill_in_middle import Span, form_of
from mlxdeck.server.chat import ChatRequest, RawPrompt, Text
from mlxdeck.server.errors import BadRequest


@dataclass(frozen=True, slots=True)
class RawText:
    """A prompt as text."""

    text: str
    spans: tuple[Span, ...] | None = None
    """The only places of control tokens; None if all are what they spell."""
    ends: tuple[str, ...] = ()
    """Texts that end its answer."""

    def encoded(self, tokenizer: Tokenizer) -> tuple[list[int], Sequence[int]]:
        """Token ids, and the number of characters up to the end of each."""
        if self.spans is None:
            return tokenizer.encode_with_ends(self.text)
        return tokenizer.encode_apart(self.text, self.spans)


def raw_text(tokenizer: Tokenizer, request: ChatRequest, raw: RawPrompt) -> RawText:
    """The prompt of a request whose one message is the text itself.

    Raises:
        BadRequest: There is a suffix, and the model has no tokens to fill a gap with.
    """
    (message,) = request.messages
    before = "".join(block.text for block in message.blocks if isinstance(block, Text))
    opening = tokenizer.opening
    if not raw.suffix:
        return RawText(before if before.startswith(opening) else opening + before)
    form = form_of(tokenizer.is_control)
    if form is None:
        raise BadRequest("suffix", "is not supported: the model has no tokens to fill a gap with")
    text, spans = form.written(before, raw.suffix)
    own = [(0, len(opening))] if tokenizer.is_control(opening) else []
    moved = [(start + len(opening), end + len(opening)) for start, end in spans]
    ends = (*form.tokens, *form.ends)
    # Some tokenizers write a blank for this sign.
    ends += tuple(each.replace("▁", " ") for each in ends if "▁" in each)
    return RawText(opening + text, (*own, *moved), ends)
