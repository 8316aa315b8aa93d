"""Prompts that can't fit are refused before they are rendered or encoded.

Texts are looked at as they come in, then as they are rendered; only what may fit is encoded whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mlxdeck.server.backends.local.engine.api import Tokenizer
from mlxdeck.server.chat import ChatRequest, Text, ToolResult
from mlxdeck.server.checkpoints import checkpoint
from mlxdeck.server.errors import PromptTooLong

EXACT_CHARS = 2_000_000
"""Of a longer text so much is counted, and the rest is taken to be like it."""
LONGEST_TOKEN_CHARS = 1_024
"""No vocabulary has longer ones; blanks, which letters and signs don't tell of, are among these."""
COUNTED_FROM_CHARS = 256 * 1024
"""A longer text is counted in pieces before it is encoded, unless it is short for the window."""
CHARS_A_TOKEN = 3
"""Texts that are shorter than this for each token of the window most often fit."""
MARGIN = 1.1
"""What is counted over the limit in pieces is over it as a whole too."""
SAMPLE_CHARS = 16 * 1024
_APART = "\u00b7"
"""Put between texts: neither a letter nor a blank, so that nothing is counted twice."""


def check_texts(tokenizer: Tokenizer, request: ChatRequest, limit_tokens: int) -> None:
    """Refuse a request by what was sent as text, as far as every template shows it.

    Templates leave out thinking, and cut answers at it, so the assistant's texts don't count.

    Raises:
        PromptTooLong: It can't fit.
    """
    # No template writes two messages into one token.
    if len(request.messages) // 2 > limit_tokens:
        raise PromptTooLong(len(request.messages), limit_tokens)
    n_chars = sum(map(len, _texts(request)))
    if n_chars > limit_tokens:
        text = _APART.join(_texts(request))
        if n_chars > LONGEST_TOKEN_CHARS * limit_tokens:
            raise _too_long(tokenizer, text, limit_tokens)
        _check_least(tokenizer, text, limit_tokens)


def estimated(tokenizer: Tokenizer, text: str) -> int:
    """About how many tokens a very long text has."""
    counted = text[:EXACT_CHARS]
    return tokenizer.count(counted, sys.maxsize) * len(text) // len(counted)


def check_length(tokenizer: Tokenizer, text: str, limit_tokens: int) -> None:
    """Refuse a rendered prompt that can't fit, without encoding all of it.

    Raises:
        PromptTooLong: It can't fit.
    """
    if len(text) <= limit_tokens:
        return
    _check_least(tokenizer, text, limit_tokens)
    if len(text) > max(COUNTED_FROM_CHARS, CHARS_A_TOKEN * limit_tokens):
        enough = int(MARGIN * limit_tokens)
        if tokenizer.count(text, enough) >= enough:
            raise _too_long(tokenizer, text, limit_tokens)


def _check_least(tokenizer: Tokenizer, text: str, limit_tokens: int) -> None:
    if tokenizer.least_tokens(text) > limit_tokens:
        raise _too_long(tokenizer, text, limit_tokens)


def _too_long(tokenizer: Tokenizer, text: str, limit_tokens: int) -> PromptTooLong:
    """The error with an estimate by the text's beginning: clients cut by how much is too much."""
    checkpoint()
    sample = text[:SAMPLE_CHARS]
    n_tokens = len(tokenizer.encode(sample)) * len(text) // len(sample)
    return PromptTooLong(max(n_tokens, limit_tokens + 1), limit_tokens)


def _texts(request: ChatRequest) -> Iterator[str]:
    yield from request.system
    for message in request.messages:
        for block in message.blocks:
            if isinstance(block, ToolResult) or (
                isinstance(block, Text) and message.role != "assistant"
            ):
                yield block.text
