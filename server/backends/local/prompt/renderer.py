"""A canonical request through the chat template into token ids.

Turns that the template refuses are regrouped; control tokens in texts stay text.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlxdeck.server.backends.local.engine.api import Tokenizer
from mlxdeck.server.backends.local.prompt.length import (
    EXACT_CHARS,
    check_length,
    check_texts,
    estimated,
)
from mlxdeck.server.backends.local.prompt.marked_rendering import marked, mentions, own_spans
from mlxdeck.server.backends.local.prompt.prompt_segments import PromptSegments, lay_out
from mlxdeck.server.backends.local.prompt.raw_prompts import raw_text
from mlxdeck.server.backends.local.prompt.regroupings import (
    CONTENT_IN_PARTS,
    changing,
    least,
    regroup,
)
from mlxdeck.server.backends.local.prompt.template_messages import (
    EMPTY_TURNS_KEPT,
    OPTIONS_LEFT_OUT,
    SCHEMAS_FILLED,
    TOOLS_AS_TEXT,
    ToolWriting,
    Wire,
    begun,
    put,
)
from mlxdeck.server.chat import ChatRequest, RawPrompt, ToolUse
from mlxdeck.server.checkpoints import checkpoint
from mlxdeck.server.errors import BadRequest, PromptTooLong

log = logging.getLogger(__name__)

_PRINTED = "[{'type': 'text', 'text': "
"""How a template that expects texts prints contents in parts."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model reads it."""

    tokens: list[int]
    max_tokens: int
    """Token limit of the answer: the client's, or the rest of the context window."""
    in_thinking: bool
    """Whether the template has opened a thinking block that the answer continues."""
    begun: str
    """The beginning of the answer, if the client wrote it; it is not sent back."""
    layout: PromptSegments
    """Where the parts of the request lie among the tokens."""
    regrouped: tuple[str, ...] = ()
    """How the conversation had to be put for the template to take it."""
    unforeseen: tuple[str, ...] = ()
    """Notes that were unknown before rendering."""
    ends: tuple[str, ...] = ()
    """Texts that end the answer, beside the client's stop sequences."""


class Renderer:
    """Turns canonical requests into tokens. Used from the prompt thread only."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        writing: ToolWriting,
        context_tokens: int,
        max_output_tokens: int = 0,
        *,
        ordered: bool = True,
        known: Collection[str] = (),
        inline: bool = False,
    ) -> None:
        """`ordered` puts the keys of tool schemas in one order.

        `known` are the regroupings that the template is known to need; with `inline`, what texts
        spell may be control tokens too.
        """
        self._ordered = ordered
        self._tokenizer = tokenizer
        self._writing = writing
        self._context_tokens = context_tokens
        self._max_output_tokens = max_output_tokens or context_tokens
        self._known = frozenset(known)
        self._inline = inline

    def render(self, request: ChatRequest) -> Prompt:
        """Apply the template and count.

        Raises:
            PromptTooLong: It leaves no room for a single token of answer.
            BadRequest: The model's template can't express this conversation.
        """
        if request.raw:
            return self._raw(request, request.raw)
        text, regrouped = self._text(request)
        limit_tokens = self._context_tokens - 1
        check_length(self._tokenizer, text, limit_tokens)
        checkpoint()
        tokens, ends = self._encoded(request, text, regrouped)
        max_tokens = self._room(request, tokens)
        think_start = self._tokenizer.traits.think_start
        in_thinking = bool(think_start) and text.rstrip().endswith(think_start)
        return Prompt(
            tokens,
            max_tokens,
            in_thinking,
            begun(request),
            lay_out(request, text, ends),
            tuple(sorted(regrouped)),
            tuple(sorted(regrouped - self._known)),
        )

    def _raw(self, request: ChatRequest, raw: RawPrompt) -> Prompt:
        found = raw_text(self._tokenizer, request, raw)
        check_length(self._tokenizer, found.text, self._context_tokens - 1)
        checkpoint()
        tokens, ends = found.encoded(self._tokenizer)
        max_tokens = self._room(request, tokens)
        layout = lay_out(request, found.text, ends)
        return Prompt(
            tokens, max_tokens, in_thinking=False, begun="", layout=layout, ends=found.ends
        )

    def _room(self, request: ChatRequest, tokens: list[int]) -> int:
        """Token limit of the answer to a prompt.

        Raises:
            PromptTooLong: There is no room for one.
        """
        if len(tokens) >= self._context_tokens:
            raise PromptTooLong(len(tokens), self._context_tokens - 1)
        left_tokens = self._context_tokens - len(tokens)
        return min(request.sampling.max_tokens, left_tokens, self._max_output_tokens)

    def check_fits(self, request: ChatRequest) -> None:
        """Refuse a request whose texts alone can't fit, before anything is made of them.

        Pure, for any thread.

        Raises:
            PromptTooLong: They can't.
        """
        check_texts(self._tokenizer, request, self._context_tokens - 1)

    def count(self, request: ChatRequest) -> int:
        """How many tokens the prompt has, also if it is too long; of a very long one, about."""
        raw = raw_text(self._tokenizer, request, request.raw) if request.raw else None
        text, regrouped = (raw.text, frozenset[str]()) if raw else self._text(request)
        if len(text) > EXACT_CHARS:
            return estimated(self._tokenizer, text)
        if raw:
            return len(raw.encoded(self._tokenizer)[0])
        return len(self._encoded(request, text, regrouped)[0])

    def text(self, request: ChatRequest) -> str:
        """The prompt as text, ending where the answer begins.

        A last message of the assistant's is the beginning of that answer.
        """
        return self._text(request)[0]

    def _text(self, request: ChatRequest) -> tuple[str, frozenset[str]]:
        """The same, and the regroupings it took."""
        try:
            return self.put(request, self._known), self._known
        except ValueError as error:
            refusal = error
        try:
            regroupings = least(self._known, lambda tried: self._takes(request, tried))
        except LookupError:
            raise BadRequest("messages", str(refusal)) from refusal
        log.warning(
            "a conversation was regrouped for the template (%s): %s",
            ", ".join(sorted(regroupings - self._known)),
            refusal,
        )
        return self.put(request, regroupings), regroupings

    def put(self, request: ChatRequest, regroupings: Collection[str]) -> str:
        """The prompt as text, with one set of regroupings.

        Raises:
            ValueError: The template refuses it.
        """
        traits = self._tokenizer.traits
        chat = put(request, traits, self._writing, regroupings, ordered=self._ordered)
        messages = regroup(chat.messages, regroupings)
        text = self._tokenizer.render(messages, chat.tools, chat.options)
        if CONTENT_IN_PARTS in regroupings and text.count(_PRINTED) > _n_printed(chat.messages):
            raise ValueError("the chat template prints contents in parts as they are")
        return text + begun(request)

    def _takes(self, request: ChatRequest, regroupings: Collection[str]) -> bool:
        try:
            self.put(request, regroupings)
        except ValueError:
            return False
        return True

    def foreseen(self, request: ChatRequest) -> tuple[str, ...]:
        """Which of the known regroupings change this conversation. Pure, for any thread."""
        if not self._known or request.raw:
            return ()
        traits, known = self._tokenizer.traits, self._known
        first = put(request, traits, self._writing, ordered=False)
        chat = put(request, traits, self._writing, known, ordered=False)
        found = changing(chat.messages, known)
        if TOOLS_AS_TEXT in known and chat.messages != first.messages:
            return (*found, TOOLS_AS_TEXT)
        if EMPTY_TURNS_KEPT in known and chat.messages != first.messages:
            found = (EMPTY_TURNS_KEPT, *found)
        if SCHEMAS_FILLED in known and chat.tools != first.tools:
            found = (*found, SCHEMAS_FILLED)
        if OPTIONS_LEFT_OUT in known and first.options:
            found = (*found, OPTIONS_LEFT_OUT)
        return found

    def _encoded(
        self, request: ChatRequest, text: str, regroupings: Collection[str]
    ) -> tuple[list[int], Sequence[int]]:
        """Token ids and where they end; only the template writes control tokens."""
        tokens, ends = self._tokenizer.encode_with_ends(text)
        spellings = [] if self._inline else self._tokenizer.control_texts(tokens)
        if not spellings or not mentions(request, spellings):
            return tokens, ends
        # Where a text and a marker of the template's overlap, one may hide the other.
        spellings = self._tokenizer.control_texts(tokens, text)
        try:
            marks = self.put(marked(request, spellings, self._begin(spellings)), regroupings)
        except ValueError:
            marks = ""
        return self._tokenizer.encode_apart(text, own_spans(text, marks, request, spellings))

    def _begin(self, spellings: Sequence[str]) -> list[str]:
        """What of these a client may write where it begins an answer: calls and thinking."""
        traits = self._tokenizer.traits
        call = self._writing.write_call(ToolUse("", "name", {}))
        written = f"{call} {traits.think_start} {traits.think_end}"
        return [spelling for spelling in spellings if spelling in written]


def _n_printed(messages: list[Wire]) -> int:
    """How often texts themselves say what printed parts look like."""
    return sum(str(message.get("content")).count(_PRINTED) for message in messages)
