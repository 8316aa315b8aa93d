"""Blanks at the beginning of an answer: a conversation's are dropped, a text's are a part of it."""

from __future__ import annotations

import pytest

from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.zoo.vocabularies import Unavailable

TEXTS = (" Paris is", "  return x\n", "\n\n  x", "é \U0001f600", "x")


@pytest.mark.parametrize("vocabulary", ["qwen3", "deepseek_v3", "gemma3", "gptoss", "llama3"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_keeps_its_blanks(vocabulary: str, text: str) -> None:
    """Token by token, and the pieces add up; without being told so, one blank may be missing."""
    try:
        known = tokenizer(vocabulary)
    except Unavailable as error:
        pytest.skip(str(error))

    def said(*, keeps_blank: bool) -> str:
        detokenizer = known.detokenizer(keeps_blank=keeps_blank)
        pieces = []
        for token in known.encode(text):
            detokenizer.add_token(token)
            pieces.append(detokenizer.last_segment)
        detokenizer.finalize()
        return "".join([*pieces, detokenizer.last_segment])

    assert said(keeps_blank=True) == text
    assert said(keeps_blank=False) in (text, text.removeprefix(" "))
