"""What of a request reaches the model, and in which form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.api import TemplateTraits
from mlxdeck.server.backends.local.engine.echo import ByteTokenizer
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.cache.cache_keys import answer_key, digests
from mlxdeck.server.canonicalize import canonical
from mlxdeck.server.chat import (
    ChatRequest,
    Message,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    ToolResult,
    ToolSpec,
    ToolUse,
)
from mlxdeck.server.errors import BadRequest, PromptTooLong

READ = ToolSpec("Read", "Reads.", {"type": "object", "properties": {"path": {"type": "string"}}})


def user(*texts: str) -> Message:
    """A user turn."""
    return Message("user", tuple(Text(text) for text in texts))


def request(*messages: Message, **fields: Any) -> ChatRequest:
    """A request with little in it."""
    defaults: dict[str, Any] = {
        "model": "local",
        "system": (),
        "messages": messages or (user("Hi"),),
        "sampling": Sampling(max_tokens=10),
    }
    return ChatRequest(**{**defaults, **fields})


class Recorder(ByteTokenizer):
    """Notes what the template is given."""

    def __init__(self, traits: TemplateTraits | None = None, refuse_system: bool = False) -> None:
        self.traits = traits or TemplateTraits()
        self.refuse_system = refuse_system
        self.messages: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] | None = None
        self.options: Mapping[str, Any] = {}

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str:
        if self.refuse_system and messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        self.messages, self.tools, self.options = messages, tools, options
        return super().render(messages, tools, options)


def rendered(
    chat: ChatRequest, traits: TemplateTraits | None = None, *, refuse_system: bool = False
) -> tuple[Recorder, str]:
    """What the template got, and the text that came out."""
    recorder = Recorder(traits, refuse_system)
    return recorder, Renderer(recorder, FORMATS["json_tags"], 10_000).text(chat)


BILLING = "x-anthropic-billing-header: cc_version=2.1.197.73f; cch=1a2b3;"


def test_what_changes_from_turn_to_turn_is_taken_out_and_named() -> None:
    """The billing line and the token countdown go, from system text only."""
    chat = request(
        user("Hi"),
        Message("system", (Text("<total_tokens>17 tokens left</total_tokens>\nBe kind."),)),
        system=(BILLING, "You are terse.\n<total_tokens>9 tokens left</total_tokens>\n"),
    )
    clean, removed = canonical(chat)
    assert clean.system == ("You are terse.\n",)
    assert clean.messages[1] == Message("system", (Text("Be kind."),))
    assert removed == ("billing_header", "total_tokens")


def test_users_may_talk_about_what_is_taken_out() -> None:
    """User text, and system text that mentions these things in a sentence, stay as they are."""
    chat = request(
        user(BILLING, "<total_tokens>5 tokens left</total_tokens>"),
        system=("The line x-anthropic-billing-header: is dropped.", "second\n" + BILLING),
    )
    assert canonical(chat) == (chat, ())


def test_a_forbidden_tool_is_not_offered() -> None:
    """With tool_choice none, the prompt holds no tools."""
    chat = request(tools=(READ,), tool_choice=ToolChoice("none"))
    assert canonical(chat)[0].tools == ()


def key(chat: ChatRequest, signature: str = "m") -> str:
    """The key of a request's answer."""
    return answer_key(digests(chat), chat, signature)


def test_the_key_ignores_whose_request_it_is_and_how_it_is_sent() -> None:
    """Model name, session, streaming and the order of keys in a schema are no part of it."""
    base = request(tools=(READ,))
    swapped = ToolSpec("Read", "Reads.", dict(reversed(READ.input_schema.items())))
    same = replace(base, model="x", session_id="s", stream=True, tools=(swapped,))
    assert key(base) == key(same)


@pytest.mark.parametrize(
    "change",
    [
        {"system": ("Be terse.",)},
        {"messages": (user("Hi "),)},
        {"tools": (READ,)},
        {"tools": (READ,), "tool_choice": ToolChoice("any")},
        {"thinking": True},
        {"sampling": Sampling(max_tokens=11)},
        {"sampling": Sampling(max_tokens=10, temperature=0.0)},
        {"sampling": Sampling(max_tokens=10, stop_sequences=("x",))},
    ],
)
def test_the_key_depends_on_all_that_decides_the_answer(change: dict[str, Any]) -> None:
    """Any change of meaning gives another key, and so does another model."""
    plain = request(tools=change["tools"]) if "tool_choice" in change else request()
    assert key(request(**change)) != key(plain)
    assert key(request()) != key(request(), "another model")


def test_a_system_message_in_the_middle_stays_in_its_place() -> None:
    """It becomes part of the user turn before it, so the prompt up to there does not change."""
    turns = [user("One"), Message("system", (Text("Note."),))]
    recorder, short = rendered(request(*turns, system=("S",)))
    assert [m["role"] for m in recorder.messages] == ["system", "user"]
    assert recorder.messages[1]["content"] == (
        "One\n\n<system-reminder>\nNote.\n</system-reminder>"
    )
    more = [*turns, Message("assistant", (Text("Two"),)), user("Three")]
    _, long = rendered(request(*more, system=("S",)))
    assert long.startswith(short.removesuffix("<assistant>"))


def test_leading_system_messages_join_the_system_prompt() -> None:
    """A dialect that puts the system prompt among the messages means the same."""
    recorder, _ = rendered(request(Message("system", (Text("B"),)), user("Hi"), system=("A",)))
    assert recorder.messages[0] == {"role": "system", "content": "A\n\nB"}


CONVERSATION = (
    user("Read a.py"),
    Message(
        "assistant",
        (Thinking("hm"), Text("Reading."), ToolUse("toolu_1", "Read", {"path": "a.py"})),
    ),
    Message("user", (ToolResult("toolu_1", "print(1)"), Text("So?"))),
)


def test_tools_are_written_out_for_a_template_that_has_none() -> None:
    """Description, calls and results appear as text, thinking does not."""
    recorder, text = rendered(request(*CONVERSATION, tools=(READ,)))
    assert recorder.tools is None
    assert '"name": "Read"' in recorder.messages[0]["content"]
    assert '<tool_call>\n{"name": "Read", "arguments": {"path": "a.py"}}\n</tool_call>' in text
    assert "<tool_response>\nprint(1)\n</tool_response>\n\nSo?" in text
    assert "hm" not in text


def test_tools_go_to_the_template_that_knows_them() -> None:
    """Calls, results and thinking keep their own places in OpenAI's shape."""
    traits = TemplateTraits(has_tools=True, has_thinking=True)
    recorder, _ = rendered(request(*CONVERSATION, tools=(READ,)), traits)
    assert recorder.tools is not None
    assert recorder.tools[0]["function"]["name"] == "Read"
    call = recorder.messages[1]
    assert call["tool_calls"][0]["function"] == {"name": "Read", "arguments": {"path": "a.py"}}
    assert call["reasoning_content"] == "hm"
    assert [m["role"] for m in recorder.messages] == ["user", "assistant", "tool", "user"]
    assert recorder.messages[2]["tool_call_id"] == "toolu_1"


def test_a_template_without_system_role_gets_it_in_the_first_turn() -> None:
    """What the template refuses as a system message leads the first user turn."""
    recorder, _ = rendered(request(system=("Be kind.",)), refuse_system=True)
    assert recorder.messages == [{"role": "user", "content": "Be kind.\n\nHi"}]


def test_a_begun_answer_is_continued() -> None:
    """A last assistant message is the beginning of the answer, after the template's prefix."""
    chat = request(user("Say"), Message("assistant", (Text("It is "),)))
    _, text = rendered(chat)
    assert text == "<user>Say</user><assistant>It is"


@pytest.mark.parametrize(("asked", "options"), [(None, {}), (True, True), (False, False)])
def test_thinking_is_asked_for_only_if_the_client_says_so(asked: bool | None, options: Any) -> None:
    """None leaves it to the template's own default."""
    recorder, _ = rendered(request(thinking=asked))
    assert recorder.options == ({} if asked is None else {"enable_thinking": options})


def test_a_prompt_that_fills_the_window_is_refused_in_the_known_words() -> None:
    """Claude Code compacts when it reads this sentence."""
    renderer = Renderer(ByteTokenizer(), FORMATS["json_tags"], 100)
    with pytest.raises(PromptTooLong, match=r"^prompt is too long: 224 tokens > 99 maximum$"):
        renderer.render(request(user("x" * 200)))


def test_the_answer_gets_what_room_the_window_leaves() -> None:
    """max_tokens is cut down to the window and to the server's own limit."""
    chat = request(sampling=Sampling(max_tokens=32_000))
    n_tokens = Renderer(ByteTokenizer(), FORMATS["json_tags"], 100).count(chat)
    roomy = Renderer(ByteTokenizer(), FORMATS["json_tags"], 100).render(chat)
    assert roomy.max_tokens == 100 - n_tokens
    assert Renderer(ByteTokenizer(), FORMATS["json_tags"], 100, 5).render(chat).max_tokens == 5


def test_a_conversation_that_no_template_takes_is_a_bad_request() -> None:
    """The template's own reason reaches the client, with the field."""

    class Refusing(ByteTokenizer):
        def render(self, *args: object) -> str:
            raise ValueError("no")

    with pytest.raises(BadRequest, match="messages: no"):
        Renderer(Refusing(), FORMATS["json_tags"], 100).render(request(system=("s",)))
