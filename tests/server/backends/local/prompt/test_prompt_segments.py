"""Where the parts of a request lie in its prompt."""

from __future__ import annotations

from mlxdeck.server.backends.local.engine.echo import ByteTokenizer
from mlxdeck.server.backends.local.prompt.prompt_segments import PromptSegments, lay_out
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, ToolResult, ToolSpec, ToolUse

READ = ToolSpec("Read", "Reads a file.", {"type": "object"})
EDIT = ToolSpec("Edit", 'Edits what "Read" has read.', {"type": "object"})


def laid_out(*messages: Message, **fields: object) -> tuple[str, PromptSegments]:
    """The prompt's text, where a token is a character, and its layout."""
    defaults: dict[str, object] = {"system": ("You are terse.",), "tools": (READ, EDIT)}
    request = ChatRequest("m", messages=messages, sampling=Sampling(9), **{**defaults, **fields})  # type: ignore[arg-type]
    renderer = Renderer(ByteTokenizer(), FORMATS["json_tags"], 10_000)
    return renderer.text(request), renderer.render(request).layout


def user(text: str) -> Message:
    """A user turn."""
    return Message("user", (Text(text),))


def test_every_part_is_found_in_its_place() -> None:
    """System, tools by name, messages by number; a part ends where the next one begins."""
    call = Message("assistant", (Text("I look."), ToolUse("c", "Read", {"path": "a"})))
    result = Message("user", (ToolResult("c", "Its text."),))
    text, layout = laid_out(user("Look at a."), call, result)
    names = [part.name for part in layout.parts]
    assert names == ["system", "tools.Read", "tools.Edit", "messages.0", "messages.1", "messages.2"]
    begins = [text[part.start :][:10] for part in layout.parts]
    assert begins[0] == "You are te"
    assert begins[1:3] == ['"name": "R', '"name": "E']
    assert begins[3:] == ["Look at a.", "I look.\n<t", "Its text.\n"]
    assert text[: layout.shared_tokens].endswith("<user>")
    assert text[: layout.tail_start].endswith("Its text.")
    for index, part in enumerate(layout.parts):
        end = layout.parts[index + 1].start if index < 5 else -1
        assert layout.part_at(part.start) == (part.name, part.start, end)
    assert layout.part_at(0)[0] == "system"


def test_short_messages_are_not_mistaken_for_other_words() -> None:
    """A full stop, or a word that the system prompt is full of."""
    for word in (".", "terse", "Read"):
        text, layout = laid_out(user(word))
        assert text[layout.shared_tokens :].startswith(f"{word}</user>")


def test_boundaries_are_where_a_later_prompt_may_part() -> None:
    """After the system prompt, before each message, and before the answer; ascending."""
    text, layout = laid_out(user("One."), Message("assistant", (Text("Two."),)), user("Three."))
    assert [text[n:][:4] for n in layout.boundaries()] == ["One.", "Two.", "Thre", "</us"]


def test_a_tokenizer_that_cant_tell_leaves_the_layout_empty() -> None:
    """Nothing is guessed."""
    request = ChatRequest("m", ("s",), (user("Hi"),), Sampling(9))
    assert lay_out(request, "sHi", ()) == PromptSegments()
    assert PromptSegments().boundaries() == () and PromptSegments().part_at(3) == ("", 0, -1)


def test_without_a_system_prompt_nothing_is_shared() -> None:
    """Every conversation begins with the name of a role."""
    _, layout = laid_out(user("Hi"), system=(), tools=())
    assert layout.shared_tokens == 0
