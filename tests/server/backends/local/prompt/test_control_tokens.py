"""Only the template writes control tokens; on the real tokenizers of families."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer
from mlxdeck.server.backends.local.prompt.marked_rendering import marked, own_spans
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.prompt.template_trial import try_template
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.chat import (
    ChatRequest,
    Message,
    Sampling,
    Text,
    Thinking,
    ToolResult,
    ToolSpec,
    ToolUse,
)
from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.zoo.vocabularies import VOCABULARIES, Unavailable

CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "<|start|>assistant"
)
TEMPLATES = {"gptoss": CHATML}


@pytest.fixture(scope="module", params=sorted(VOCABULARIES))
def family(request: pytest.FixtureRequest) -> MlxTokenizer:
    """Each family's tokenizer, with its own template if it has one."""
    try:
        return tokenizer(request.param, TEMPLATES.get(request.param, ""))
    except Unavailable as error:
        pytest.skip(str(error))


def renderer(family: MlxTokenizer, **options: Any) -> Renderer:
    """What the server would make for this template."""
    form = choose_format("auto", family.traits)
    return Renderer(family, form, 1 << 20, known=regroupings_of(family), **options)


@functools.cache
def regroupings_of(family: MlxTokenizer) -> tuple[str, ...]:
    """What its template's trial finds, once for all tests."""
    return try_template(family, choose_format("auto", family.traits)).regroupings


def conversation(text: str, **fields: Any) -> ChatRequest:
    """A text in every place that a request has for one."""
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": text}}}
    return ChatRequest(
        "local",
        (f"Be kind. {text}",),
        (
            Message("user", (Text(f"Look at {text} please"),)),
            Message(
                "assistant",
                (
                    Thinking(f"hm {text}"),
                    Text(f"I look {text} there"),
                    ToolUse("call00000", "Read", {"path": f"a {text} b"}),
                ),
            ),
            Message("user", (ToolResult("call00000", f"{text}\nfound"), Text(f"So {text}"))),
        ),
        Sampling(1),
        tools=(ToolSpec("Read", f"Reads {text} files", schema),),
        **fields,
    )


def spellings(family: MlxTokenizer) -> list[str]:
    """The texts of a family's control tokens, a few where there are thousands."""
    added = family.wrapper.added_tokens_decoder.values()
    found = [each.content for each in added if any(c in each.content for c in "<[|")]
    return found if len(found) < 30 else [*found[:12], *found[-12:]]


def counts(family: MlxTokenizer, tokens: list[int]) -> dict[str, int]:
    """How often each control token stands among tokens."""
    ids = {id_: each.content for id_, each in family.wrapper.added_tokens_decoder.items()}
    found: dict[str, int] = {}
    for token in tokens:
        if any(c in ids.get(token, "") for c in "<[|"):
            found[ids[token]] = found.get(ids[token], 0) + 1
    return found


def test_a_prompt_that_spells_no_control_token_is_encoded_as_a_whole(family: MlxTokenizer) -> None:
    """Its token ids and their ends are those of the rendered text."""
    ours = renderer(family)
    chat = conversation("plain text\n\n  with blanks | and [marks]")
    text = ours.text(chat)
    assert ours.render(chat).tokens == family.encode(text)


def test_what_texts_spell_is_ordinary_text(family: MlxTokenizer) -> None:
    """Wherever it stands, the prompt has the control tokens that it has without it."""
    ours = renderer(family)
    base = counts(family, ours.render(conversation("nothing")).tokens)
    for spelling in spellings(family):
        # Templates may take thinking out of a text that holds its tags.
        if spelling in (family.traits.think_start, family.traits.think_end):
            continue
        chat = conversation(spelling)
        prompt = ours.render(chat)
        assert counts(family, prompt.tokens) == base, spelling
        assert family.wrapper.decode(prompt.tokens) == family.wrapper.decode(
            family.encode(ours.text(chat))
        )
        assert ours.count(chat) == len(prompt.tokens)


def test_a_text_that_ends_within_a_marker_takes_none_of_the_template_s() -> None:
    """What a text and the template's marker behind it spell together is none; the marker is."""
    spellings = ["]~!b[", "[e~["]
    chat = ChatRequest("local", (), (Message("user", (Text("x ]~!b"),)),), Sampling(1))
    rendered = "".join(
        f"{block.text}[e~["
        for block in marked(chat, spellings).messages[0].blocks
        if isinstance(block, Text)
    )
    assert own_spans("x ]~!b[e~[", rendered, chat, spellings) == [(6, 10)]


def test_a_forged_conversation_is_one_text(family: MlxTokenizer) -> None:
    """The template's own tokens in a tool result don't become turns."""
    ours = renderer(family)
    base = conversation("nothing")
    forged = ours.text(replace(base, system=(), tools=(), messages=base.messages[:1]))
    before = counts(family, ours.render(base).tokens)
    assert counts(family, ours.render(conversation(forged)).tokens) == before
    assert (
        counts(family, renderer(family, inline=True).render(conversation(forged)).tokens) != before
    )


def growing(chat: ChatRequest) -> Iterator[ChatRequest]:
    """The conversation up to each of its user turns."""
    for n, message in enumerate(chat.messages, 1):
        if message.role == "user":
            yield replace(chat, messages=chat.messages[:n])


def test_a_text_keeps_its_tokens_as_the_conversation_grows(family: MlxTokenizer) -> None:
    """What stood in the prompt before what was added for an answer stands there again."""
    ours = renderer(family)
    for spelling in spellings(family)[:8]:
        first, second = (ours.render(chat) for chat in growing(conversation(spelling)))
        shared = first.layout.tail_start
        assert first.tokens[:shared] == second.tokens[:shared]


def test_ends_are_those_of_the_text(family: MlxTokenizer) -> None:
    """Parts of a request are found among tokens that were encoded apart."""
    ours = renderer(family)
    for spelling in spellings(family)[:4]:
        prompt = ours.render(conversation(spelling))
        plain = ours.render(conversation("nothing"))
        assert [p.name for p in prompt.layout.parts] == [p.name for p in plain.layout.parts]


def test_a_client_may_begin_an_answer_with_a_call_or_a_thought(family: MlxTokenizer) -> None:
    """Markers of calls and thinking at the beginning of an answer stay control tokens."""
    ours = renderer(family)
    form = choose_format("auto", family.traits)
    chat = conversation("nothing")
    for start in (*form.starts, family.traits.think_start):
        begun = (*chat.messages, Message("assistant", (Text(start),)))
        prompt = ours.render(replace(chat, messages=begun))
        assert prompt.tokens == family.encode(ours.text(replace(chat, messages=begun)))
