"""Templates that refuse are led through other ways of putting a conversation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlxdeck.server.backends.local.engine.mlx.tokenizer import MlxTokenizer
from mlxdeck.server.backends.local.prompt.regrouping_texts import DONE
from mlxdeck.server.backends.local.prompt.regroupings import REGROUPINGS, changing, regroup
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.prompt.template_trial import TemplateTrial, try_template
from mlxdeck.server.backends.local.toolcalls.formats.registry import choose_format
from mlxdeck.server.chat import (
    Block,
    ChatRequest,
    Message,
    Sampling,
    Text,
    Thinking,
    ToolResult,
    ToolSpec,
    ToolUse,
)
from mlxdeck.server.errors import EngineFailed
from tests.server.backends.local.prompt.refusing import TEMPLATES
from tests.server.backends.local.prompt.tokenizers import tokenizer
from tests.zoo.vocabularies import Unavailable

READ = ToolSpec("Read", "Reads.", {"type": "object", "properties": {"path": {"type": "string"}}})
N_CONVERSATIONS = 25
"""Made up for each template."""


def made(name: str) -> MlxTokenizer:
    """A tokenizer with one of the templates, or a family's with its own."""
    try:
        return written(TEMPLATES[name]) if name in TEMPLATES else tokenizer(name)
    except Unavailable as error:
        pytest.skip(str(error))


def written(template: str) -> MlxTokenizer:
    """A tokenizer with that template."""
    try:
        return tokenizer("qwen3", template)
    except Unavailable as error:
        pytest.skip(str(error))


REAL = ("qwen3", "deepseek_v3", "gemma3", "llama3", "llama3_1")


@pytest.fixture(scope="module", params=[*TEMPLATES, *REAL])
def tried(request: pytest.FixtureRequest) -> tuple[Renderer, TemplateTrial]:
    """What the server would make for a template, and what its trial has found."""
    family = made(request.param)
    form = choose_format("auto", family.traits)
    trial = try_template(family, form)
    return Renderer(family, form, 1 << 20, known=trial.regroupings), trial


def conversation(seed: int, *, thinks: bool = True) -> ChatRequest:
    """Any turns that a dialect would accept, ending in one of the user's."""
    draw = random.Random(seed)
    ids: list[str] = []
    words = iter(f"word{n:03}" for n in range(1000))

    def text() -> Text:
        return Text(draw.choice((next(words), f"{next(words)}\n", "", f" {next(words)}")))

    def call() -> ToolUse:
        ids.append(f"call{len(ids):05}")
        return ToolUse(ids[-1], "Read", {"path": next(words), "deep": {"a": [1, None, "x"]}})

    def result() -> ToolResult:
        known = ids[draw.randrange(len(ids))] if ids and draw.random() < 0.9 else "call99999"
        return ToolResult(known, next(words) if draw.random() < 0.9 else "", draw.random() < 0.1)

    makers: dict[str, tuple[Callable[[], Block], ...]] = {
        "user": (text, text, result),
        "assistant": (text, call, *([lambda: Thinking(next(words))] if thinks else [])),
        "system": (text,),
    }
    turns = []
    for _ in range(draw.randrange(1, 9)):
        role = draw.choice(("user", "user", "user", "assistant", "assistant", "system"))
        blocks = tuple(draw.choice(makers[role])() for _ in range(draw.randrange(1, 4)))
        turns.append(Message(role, blocks))  # type: ignore[arg-type]
    turns.append(Message("user", (Text("the last word") if not thinks else text(),)))
    system = ("Be kind.",) if draw.random() < 0.5 else ()
    tools = (READ,) if draw.random() < 0.7 else ()
    thinking = draw.choice((None, None, True, False))
    return ChatRequest("m", system, tuple(turns), Sampling(1), tools, thinking=thinking)


def test_every_template_takes_every_conversation(tried: tuple[Renderer, TemplateTrial]) -> None:
    """And the regroupings that the trial has found are all that it takes."""
    renderer, known = tried
    for seed in range(N_CONVERSATIONS):
        chat = conversation(seed)
        prompt = renderer.render(chat)
        if not takes_one_message(known):
            assert set(prompt.regrouped) == set(known.regroupings), seed
        text = renderer.text(chat)
        for block in (block for message in chat.messages for block in message.blocks):
            if isinstance(block, Text | ToolResult):
                assert block.text.strip() in text


def test_a_conversation_that_goes_on_begins_as_it_did(
    tried: tuple[Renderer, TemplateTrial],
) -> None:
    """Up to the end of what was said last, so that its state serves the longer one."""
    renderer, _ = tried
    answer = Message("assistant", (Text("Yes."),))
    for seed in range(N_CONVERSATIONS):
        chat = conversation(seed, thinks=False)
        text = renderer.text(chat)
        longer = replace(chat, messages=(*chat.messages, answer, Message("user", (Text("On."),))))
        end = text.rindex("the last word") + len("the last word")
        assert renderer.text(longer).startswith(text[:end]), seed


def takes_one_message(trial: TemplateTrial) -> bool:
    """Whether whatever is said has to be one text, which no trial makes the rule."""
    return trial.regroupings == ("system_folded",) and not trial.has_tools


def turns(*messages: Message) -> ChatRequest:
    """A request with a tool."""
    return ChatRequest("m", (), messages, Sampling(1), (READ,))


ASKED, CALL = Message("user", (Text("ask"),)), ToolUse("call00000", "Read", {"path": "a"})
RESULT, OTHER = ToolResult("call00000", "found"), ToolUse("call00001", "Read", {"path": "b"})
CASES: dict[str, tuple[ChatRequest, str, tuple[str, ...]]] = {
    "a reminder behind a result": (
        turns(
            ASKED,
            Message("assistant", (CALL,)),
            Message("user", (RESULT, Text("<system-reminder>x</system-reminder>"))),
        ),
        '[INST]ask[/INST][TOOL_CALLS]Read[ARGS]{"path": "a"}</s>'
        "[R]found\n\n<system-reminder>x</system-reminder>[/R]",
        ("text_into_result",),
    ),
    "a text before a result": (
        turns(ASKED, Message("assistant", (CALL,)), Message("user", (Text("no"), RESULT))),
        '[INST]ask[/INST][TOOL_CALLS]Read[ARGS]{"path": "a"}</s>[R]found\n\nno[/R]',
        ("results_first", "text_into_result"),
    ),
    "a call without its result": (
        turns(ASKED, Message("assistant", (CALL,)), Message("user", (Text("stop"),))),
        '[INST]ask[/INST][TOOL_CALLS]Read[ARGS]{"path": "a"}</s>'
        "[R](no result: the call was not answered)\n\nstop[/R]",
        ("open_calls_answered", "text_into_result"),
    ),
    "two answers in a row": (
        turns(ASKED, Message("assistant", (Text("a"),)), Message("assistant", (Text("b"),)), ASKED),
        "[INST]ask[/INST]a\n\nb</s>[INST]ask[/INST]",
        ("roles_joined",),
    ),
    "a result without its call": (
        turns(ASKED, Message("assistant", (Text("a"),)), Message("user", (RESULT, Text("so")))),
        "[INST]ask[/INST]a</s>[INST]Result of an earlier tool call:\nfound\n\nso[/INST]",
        ("orphans_as_text",),
    ),
    "an answer first": (
        turns(Message("assistant", (Text("a"),)), ASKED),
        "[INST](The conversation goes on.)[/INST]a</s>[INST]ask[/INST]",
        ("opened_by_user",),
    ),
    "an ordinary turn": (turns(ASKED), "[INST]ask[/INST]", ()),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_template_refuses_is_put_otherwise_and_named(name: str) -> None:
    """What comes of it, and which regroupings are told before it is rendered."""
    chat, text, names = CASES[name]
    family = made("alternating")
    form = choose_format("auto", family.traits)
    renderer = Renderer(family, form, 1000, known=try_template(family, form).regroupings)
    assert renderer.text(chat) == text
    assert set(renderer.foreseen(chat)) == set(names)


@pytest.mark.parametrize("template", ["{% if %}", "{{ messages.nothing.at_all }}", "{{ 1 / 0 }}"])
def test_a_template_that_takes_nothing_stops_the_load_in_one_line(template: str) -> None:
    """And says what to do."""
    family = written(template)
    with pytest.raises(EngineFailed, match="no usable chat template: .*--chat-template"):
        try_template(family, choose_format("json_tags", family.traits))


def test_a_template_is_tried_with_everything_and_says_what_it_lacks() -> None:
    """In words for the ready line, and in names for programs."""
    family = made("strict")
    trial = try_template(family, choose_format("auto", family.traits))
    assert trial.summary == (
        "for its chat template, tools, their calls and results are put as text;"
        " a system prompt leads the first user turn, and 3 more changes"
    )
    assert trial.lacks[:2] == ["tools", "a system prompt"]
    assert trial.report() == {
        "tools": False,
        "regroupings": ["system_folded", "empty_turns_kept", "roles_joined", "opened_by_user"],
        "does_not_take": trial.lacks,
    }
    assert TemplateTrial(True).summary == ""
    told = TemplateTrial(True, ("thinking_left_out",)).summary
    assert told == "for its chat template, earlier thinking is left out"


def test_each_regrouping_says_what_it_does() -> None:
    """None says that something is moved where it is left out, or added."""
    assert DONE.keys() == REGROUPINGS.keys()
    for name, done in DONE.items():
        assert name.endswith("_left_out") == ("left out" in done), name


def regrouped(template: str, chat: ChatRequest) -> tuple[str, set[str], set[str]]:
    """The prompt, what its template is known to need, and what else it took."""
    family = written(template)
    form = choose_format("json_tags", family.traits)
    known = try_template(family, form).regroupings
    prompt = Renderer(family, form, 1000, known=known).render(chat)
    return family.wrapper.decode(prompt.tokens), set(known), set(prompt.unforeseen)


def test_what_is_found_only_when_it_comes_is_named_too() -> None:
    """A template that refuses an answer for the marker that it spells."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' and '<|channel|>' in m.content %}"
        "{{ raise_exception('a marker') }}{% endif %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}"
    )
    chat = turns(ASKED, Message("assistant", (Text("say <|channel|> x"),)), ASKED)
    text, known, found = regrouped(template, chat)
    assert text.startswith("<user>ask<assistant>say < |channel|> x<user>ask")
    assert (known & found, found) == (set(), {"markers_parted"})


def test_contents_are_never_put_as_lists_that_are_printed() -> None:
    """Where texts may not be blank, a list with a blank text in it would do: but it shows."""
    template = (
        "{% for m in messages %}{% if not (m.content | trim) and not m.tool_calls %}"
        "{{ raise_exception('empty') }}{% endif %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
        "{% if tools %}{% endif %}"
    )
    said = Message("user", (Text("[{'type': 'text', 'text': ' '}]"),))
    chat = turns(ASKED, Message("assistant", (Text(" \n"),)), said)
    text, _, found = regrouped(template, chat)
    assert text == "<user>ask<assistant>(no text)<user>[{'type': 'text', 'text': ' '}]"
    assert not found


def test_calls_in_a_history_without_tools_leave_tools_to_those_who_offer_them() -> None:
    """What one odd conversation needs is not put upon all others."""
    template = (
        "{% set names = (tools or []) | map(attribute='function.name') | list %}"
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.function.name not in names"
        " %}{{ raise_exception('undeclared') }}{% endif %}{{ c.function | tojson }}{% endfor %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    chat = turns(ASKED, Message("assistant", (CALL,)), Message("user", (RESULT,)))
    assert regrouped(template, chat)[1:] == (set(), set())
    assert regrouped(template, replace(chat, tools=()))[2] == {"tools_as_text"}


def test_effort_and_options_reach_the_template_and_no_one_else_is_given_them() -> None:
    """By the names that templates read."""
    told = written("{{ reasoning_effort }} {{ colour }} {{ enable_thinking }}")
    renderer = Renderer(told, choose_format("json_tags", told.traits), 1000)
    chat = replace(turns(ASKED), effort="low", template_options={"colour": "blue"}, thinking=False)
    assert renderer.text(chat) == "low blue False"


def test_every_regrouping_has_a_step_or_a_way_to_put_it() -> None:
    """None changes a conversation of one plain message but what it lacks is a system prompt."""
    plain = [{"role": "user", "content": "hi"}]
    for name in REGROUPINGS:
        if name not in ("content_in_parts", "system_added"):
            assert regroup(plain, (name,)) == plain
            assert changing(plain, (name,)) == ()
