"""A chat template tried on the turns that agents send, before the first of them comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mlxdeck.server.backends.local.engine.api import Tokenizer
from mlxdeck.server.backends.local.prompt.regrouping_texts import DONE
from mlxdeck.server.backends.local.prompt.regroupings import REGROUPINGS, least
from mlxdeck.server.backends.local.prompt.renderer import Renderer
from mlxdeck.server.backends.local.prompt.template_messages import (
    ONE_TURN,
    TOOLS_AS_TEXT,
    ToolWriting,
)
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

N_TOLD = 2
"""Maximal number of changes for a template on one line."""


@dataclass(frozen=True, slots=True)
class TemplateTrial:
    """The abilities of a chat template."""

    has_tools: bool
    """Whether it takes tools, their calls and their results as such."""
    regroupings: tuple[str, ...] = ()
    """The regroupings that conversations need, if any."""

    @property
    def _changes(self) -> list[str]:
        """The names of all that is put to it otherwise; the most important comes first."""
        tools = [] if self.has_tools else [TOOLS_AS_TEXT]
        return tools + [name for name in self.regroupings if name != TOOLS_AS_TEXT]

    @property
    def lacks(self) -> list[str]:
        """Its limits, each as a text for people."""
        return [REGROUPINGS[name] for name in self._changes]

    @property
    def done(self) -> list[str]:
        """What is done about each of them, as a sentence."""
        return [DONE[name] for name in self._changes]

    @property
    def summary(self) -> str:
        """The same as a line; empty if there is nothing."""
        done = self.done
        if not done:
            return ""
        n_more = len(done) - N_TOLD
        more = f", and {n_more} more change{'s' if n_more > 1 else ''}" if n_more > 0 else ""
        return f"for its chat template, {'; '.join(done[:N_TOLD])}{more}"

    def report(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "tools": self.has_tools,
            "regroupings": [*self.regroupings],
            "does_not_take": self.lacks,
        }


def try_template(tokenizer: Tokenizer, writing: ToolWriting) -> TemplateTrial:
    """Find out what the template accepts, and which regroupings help with the rest.

    Raises:
        EngineFailed: It refuses even one plain message.
    """
    renderer = Renderer(tokenizer, writing, 1 << 20)
    known = _plainest(renderer)
    taken: dict[str, ChatRequest] = {}
    for chat in _conversations():
        known = _learned(renderer, chat, known, taken)
        with suppress(ValueError):
            taken[renderer.put(chat, known)] = chat
    has_tools = tokenizer.traits.has_tools and TOOLS_AS_TEXT not in known
    return TemplateTrial(has_tools, tuple(name for name in REGROUPINGS if name in known))


def _plainest(renderer: Renderer) -> frozenset[str]:
    """The regroupings that even one plain message needs; hardly ever any."""
    try:
        renderer.put(PLAIN, ())
    except ValueError as error:
        with suppress(LookupError):
            return least((), partial(_shows, renderer, PLAIN))
        raise EngineFailed(
            f"the model has no usable chat template: {str(error).partition('! ')[0]}. "
            "Give a file with a valid one: --chat-template"
        ) from error
    return frozenset()


def _learned(
    renderer: Renderer, chat: ChatRequest, known: frozenset[str], taken: Mapping[str, ChatRequest]
) -> frozenset[str]:
    """The known regroupings, and those that this conversation also needs.

    The output should contain all content, and conversations that are `taken` should not change, or
    at least be accepted. If no choice is as good, any that the template accepts will do.
    """

    def agrees(tried: frozenset[str]) -> bool:
        return _shows(renderer, chat, tried) and all(
            _is_put(renderer, before, tried, text) for text, before in taken.items()
        )

    def spares(tried: frozenset[str]) -> bool:
        return _shows(renderer, chat, tried) and all(
            _shows(renderer, before, tried) for before in taken.values()
        )

    if _shows(renderer, chat, known):
        return known
    for accepts in (
        agrees,
        spares,
        partial(_shows, renderer, chat),
        partial(_takes, renderer, chat),
    ):
        with suppress(LookupError):
            found = known if accepts(known) else least(known, accepts)
            # One odd conversation is no reason to put all of them as one turn; it will be. The
            # same where no tools are offered, for those that are.
            if ONE_TURN not in found and (chat.tools or TOOLS_AS_TEXT not in found):
                return found
    return known


def _is_put(renderer: Renderer, chat: ChatRequest, regroupings: frozenset[str], text: str) -> bool:
    """Whether this comes of a conversation."""
    try:
        return renderer.put(chat, regroupings) == text
    except ValueError:
        return False


def _takes(renderer: Renderer, chat: ChatRequest, regroupings: frozenset[str]) -> bool:
    try:
        renderer.put(chat, regroupings)
    except ValueError:
        return False
    return True


def _shows(renderer: Renderer, chat: ChatRequest, regroupings: frozenset[str]) -> bool:
    """Whether the output holds all texts of users, tools and calls; calls as JSON or text."""
    try:
        text = renderer.put(chat, regroupings)
    except ValueError:
        return False
    return all(said.strip() in text for said in _said(chat)) and "{'path'" not in text


def _said(chat: ChatRequest) -> Iterator[str]:
    yield from chat.system
    for message in chat.messages[:-1] if chat.messages[-1].role == "assistant" else chat.messages:
        for block in message.blocks:
            if isinstance(block, ToolUse):
                yield block.name
                yield from block.input.values()
            elif not isinstance(block, Thinking):
                yield block.text


# Words that no template contains, so that the output can be searched for them.
_READ = ToolSpec(
    "qReadq",
    "Reads a file.",
    {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)


# As servers offer them whose tools take nothing, or whose schemas come from a program's types.
_BARE = ToolSpec("qBareq", "", {"type": "object"})
_LOOSE = ToolSpec("qLooseq", "Does.", {"type": "object", "properties": {"path": {}}})


def _user(*blocks: Block | str) -> Message:
    return Message("user", tuple(Text(b) if isinstance(b, str) else b for b in blocks))


def _assistant(*blocks: Block | str) -> Message:
    return Message("assistant", tuple(Text(b) if isinstance(b, str) else b for b in blocks))


def _call(n: int) -> ToolUse:
    return ToolUse(f"call{n:05}", _READ.name, {"path": f"/qpath{n}q"})


def _result(n: int) -> ToolResult:
    return ToolResult(f"call{n:05}", f"qresult{n}q")


def _chat(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest("trial", (), messages, Sampling(1), **fields)


# With blanks around it, to distinguish templates that trim texts.
_ASKED = _user(" qaskedq\n")
PLAIN = _chat(_ASKED)
_ANSWER, _MORE = _assistant("qanswerq"), _user("qmoreq")

_TURNS: tuple[tuple[Message, ...], ...] = (
    (_ASKED, _ANSWER, _MORE),
    (_ASKED, _assistant("qtextq", _call(1)), _user(_result(1))),
    (_ASKED, _assistant("qtextq", _call(1)), _user(_result(1)), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1)), _user(_result(1)), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1)), _user(_result(1)), _assistant(_call(2)), _user(_result(2))),
    (_ASKED, _assistant(_call(1)), _user(_result(1), "qbehindq")),
    (_ASKED, _assistant(_call(1)), _user(_result(1), "qbehindq"), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1)), _user(_result(1)), _user("qbehindq"), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1)), _user("qbeforeq", _result(1)), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1), _call(2)), _user(_result(1), _result(2)), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1), _call(2)), _user(_result(2)), _user("qtextq", _result(1))),
    (_ASKED, _assistant(_call(1), _call(2)), _user(_result(1), "qbehindq"), _ANSWER, _MORE),
    (_ASKED, _assistant(_call(1)), _user("qinsteadq"), _ANSWER, _MORE),
    (_ASKED, _ANSWER, _user(""), _assistant("qlaterq"), _MORE),
    (_ASKED, _assistant("qfirstq"), _assistant("qsecondq"), _MORE),
    (_ASKED, _assistant("qfirstq"), _assistant(_call(1)), _user(_result(1))),
    (_ASKED, _assistant(_call(1)), _assistant("qsecondq"), _MORE),
    (_ASKED, _ANSWER, _user(_result(1)), _assistant("qlaterq"), _MORE),
    (_user(_result(1)),),
    (_user(_result(1), "qbehindq"), _ANSWER, _MORE),
    (_ANSWER, _MORE),
    (_assistant(_call(1)), _user(_result(1))),
    (_ASKED, Message("system", (Text("qnoteq"),)), _ANSWER, _MORE),
    (_ASKED, _assistant(Thinking("qthoughtq"), "qtextq", _call(1)), _user(_result(1)), _ANSWER),
    (_user(""),),
    (_user(""), _ANSWER, _MORE),
    (_user(" \n"), _ANSWER, _MORE),
    (_ASKED, _assistant(""), _MORE),
    (_ASKED, _assistant(" \n"), _MORE),
    (_ASKED, _assistant(Thinking("qthoughtq")), _MORE),
)


def _conversations() -> Iterator[ChatRequest]:
    """What agents send, the plainest first; with a system prompt and without, as with tools."""
    yield replace(PLAIN, system=("qsystemq",))
    yield _chat(_ASKED, tools=(_READ,))
    yield _chat(_ASKED, tools=(_READ, _BARE, _LOOSE))
    for turns in _TURNS:
        yield _chat(*turns, tools=(_READ,))
        yield replace(_chat(*turns), system=("qsystemq",))
        yield _chat(*turns)
    for options in ({"thinking": True}, {"thinking": False}, {"effort": "low"}):
        yield _chat(_ASKED, **options)
