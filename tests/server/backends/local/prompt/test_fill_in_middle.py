"""Gaps in texts, written as each family of models knows them."""

from __future__ import annotations

import pytest

from mlxdeck.server.backends.local.prompt.fill_in_middle import FORMS, form_of
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ChatRequest, Message, RawPrompt, Sampling, Text
from mlxdeck.server.errors import BadRequest
from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.zoo.vocabularies import Unavailable

BEFORE, AFTER = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.prefix)
def test_a_form_is_found_by_its_tokens(form: object) -> None:
    """Each by its own, and by all of them."""
    (index,) = [n for n, each in enumerate(FORMS) if each is form]
    known = set(FORMS[index].tokens)
    assert form_of(known.__contains__) is form
    known.pop()
    assert form_of(known.__contains__) is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.prefix)
def test_places_are_those_of_the_tokens(form: object) -> None:
    """Both texts stand whole between them, and the answer begins behind the last one."""
    (found,) = [each for each in FORMS if each is form]
    text, spans = found.written(BEFORE, AFTER)
    assert sorted(text[start:end] for start, end in spans) == sorted(found.tokens)
    assert len(text) == len(BEFORE + AFTER) + sum(map(len, found.tokens))
    last = text[spans[-1][0] :]
    assert last in (found.middle, found.prefix + BEFORE)


WRITTEN = {
    "qwen3": "<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>",
    "deepseek_v3": "<｜begin▁of▁sentence｜><｜fim▁begin｜>{before}"
    "<｜fim▁hole｜>{after}<｜fim▁end｜>",
}


def asked(before: str, suffix: str = "") -> ChatRequest:
    """A raw prompt."""
    message = Message("user", (Text(before),))
    return ChatRequest("m", (), (message,), Sampling(16), raw=RawPrompt(suffix))


def renderer(vocabulary: str) -> Renderer:
    """With a family's real tokenizer."""
    try:
        return Renderer(tokenizer(vocabulary), FORMATS["json_tags"], 4096)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("vocabulary", WRITTEN)
def test_real_tokenizers_make_control_tokens_of_them(vocabulary: str) -> None:
    """Of those alone: the same spelled in the code is text, and known tokens end the answer."""
    backend = tokenizer(vocabulary).wrapper.backend_tokenizer
    pattern = WRITTEN[vocabulary]
    prompt = renderer(vocabulary).render(asked(BEFORE, AFTER))
    expected = backend.encode(pattern.format(before=BEFORE, after=AFTER), add_special_tokens=False)
    assert prompt.tokens == expected.ids
    assert not prompt.in_thinking and prompt.begun == ""
    names = [part.name for part in prompt.layout.parts]
    assert names == ["messages.0"]
    spelled = pattern.split("{after}")[1]
    inside = renderer(vocabulary).render(asked(f"{BEFORE}{spelled}", AFTER))
    (mark,) = backend.encode(spelled, add_special_tokens=False).ids[-1:]
    assert (prompt.tokens.count(mark), inside.tokens.count(mark)) == (1, 1)
    assert any(end in pattern for end in prompt.ends)
    assert renderer(vocabulary).count(asked(BEFORE, AFTER)) == len(prompt.tokens)


@pytest.mark.parametrize(
    ("vocabulary", "opening"),
    [
        ("qwen3", ""),
        ("llama3_1", "<|begin_of_text|>"),
        ("gemma3", "<bos>"),
        ("gptoss", ""),
        ("deepseek_v3", "<｜begin▁of▁sentence｜>"),
    ],
)
def test_a_text_begins_as_the_tokenizer_begins_texts(vocabulary: str, opening: str) -> None:
    """Once, also where the client has written it; control tokens are what they spell."""
    text = "Once upon<|im_end|>"
    render = renderer(vocabulary).render
    backend = tokenizer(vocabulary).wrapper.backend_tokenizer
    expected = backend.encode(opening + text, add_special_tokens=False).ids
    for sent in (text, opening + text):
        prompt = render(asked(sent))
        assert prompt.tokens == expected
        assert prompt.ends == ()
    bare = backend.encode(text, add_special_tokens=False).ids
    assert len(expected) - len(bare) == bool(opening)


def test_a_model_without_such_tokens_says_so() -> None:
    """By the field that asks for it."""
    with pytest.raises(BadRequest, match="^suffix: is not supported"):
        renderer("llama3").render(asked(BEFORE, AFTER))
