"""A conversation, independent of any wire format: pure values, no I/O, no identity.

Dialects decode bytes into a `ChatRequest` and encode the `Event`s of an answer into bytes. All code
between the two uses only this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Json = Any
"""A decoded JSON value. The one place where `Any` goes past a decoder."""

Role = Literal["system", "user", "assistant"]
NO_LIMIT_TOKENS = 1 << 30
"""For requests that name no limit: the context window is one."""
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "pause_turn"]
"""Anthropic's words. Only another server ends an answer by one of the last two."""


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, in a message or in the system prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class MediaText(Text):
    """A picture or another medium; `text` stands for it where a model reads text alone."""

    kind: str = ""
    """`image`, `document`, `audio` or `video`."""
    media_type: str = ""
    data: str = field(default="", repr=False)
    """Its bytes in base64; empty where they are elsewhere."""
    url: str = field(default="", repr=False)
    """Where they are, unless `data` has them."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning that a model wrote earlier and a client sends back."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call that the assistant made."""

    id: str
    name: str
    input: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call; `text` is the concatenation of its text blocks."""

    tool_use_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ResultWithMedia(ToolResult):
    """The same with pictures in it; `text` has a placeholder for each."""

    parts: tuple[Text, ...] = ()
    """Texts and media, in order."""


Block = Text | Thinking | ToolUse | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. A `system` message may be anywhere in the conversation."""

    role: Role
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the client offers; `input_schema` is a JSON Schema object."""

    name: str
    description: str
    input_schema: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may, must or must not call a tool."""

    mode: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""
    """The tool to call, when `mode` is `tool`."""
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. None means: the model's own default."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    min_p: float = 0.0
    """Minimal probability of a token, as a share of the most likely one's; 0 for none."""
    seed: int | None = None
    """Seed that makes the sampling repeatable; None for a random one."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the answer holds already."""
    frequency_penalty: float = 0.0
    """The same, as often as it holds it."""
    repetition_penalty: float = 1.0
    """What such a token's logit is divided by, or multiplied with if it is negative."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids, ascending, and the value to add to their logits."""


@dataclass(frozen=True, slots=True)
class ClientBody:
    """A request as its client sent it, for a backend that passes it on."""

    dialect: str
    """Name of the API that it is written in."""
    fields: dict[str, Json]
    """The decoded body. Shared and never changed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that belong to the body, as `anthropic-beta`, by their names in lower case."""


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """The text of a request's one message is the prompt, without a chat template."""

    suffix: str = ""
    """Text behind the gap that the answer fills; empty if the answer goes on with the prompt."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for an answer, as every dialect decodes it."""

    model: str
    """The client's name of the model; the loaded model answers to any name."""
    system: tuple[str, ...]
    """The system prompt's blocks, in order."""
    messages: tuple[Message, ...]
    sampling: Sampling
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    stream: bool = False
    thinking: bool | None = None
    """Whether the client requests thinking; None leaves it to the model."""
    thinking_tokens: int = 0
    """How many tokens the model may think; 0 if there is no limit but `max_tokens`."""
    effort: str = ""
    """How hard the model should think, in the client's words; empty leaves it to the model."""
    template_options: dict[str, Json] = field(default_factory=dict)
    """The client's options for the chat template, by name."""
    answer_schema: dict[str, Json] | None = None
    """The JSON Schema that the answer's text has to conform to."""
    answer_field: str = ""
    """Where the request has this schema; errors about the schema name the place."""
    answer_strict: bool = False
    """Whether the client was promised the whole schema, and not only what a grammar can express."""
    stream_usage: bool = True
    """Whether a stream ends with token counts."""
    session_id: str = ""
    """The client's own name of the conversation, for telemetry; never part of the prompt."""
    agent_id: str = ""
    parent_agent_id: str = ""
    """The client's names of the agent that asks and of the one that started it, likewise."""
    agent_name: str = ""
    """The kind of agent, where the client tells it in so many words."""
    is_long: bool = field(default=False, repr=False)
    """Whether it is so long that work on it may delay other requests."""
    is_short: bool = field(default=True, compare=False, repr=False)
    """Whether reading it takes less than a millisecond, so that the event loop may do it."""
    body_key: str = field(default="", compare=False, repr=False)
    """The same only for requests that were read from equal bytes; empty if that isn't known."""
    history_notes: tuple[str, ...] = ()
    """Changes that made the history readable for the model, for telemetry; names and counts."""
    unsupported: tuple[str, str] | None = field(default=None, compare=False, repr=False)
    """Path and reason of what only another server could take, as a picture that the user sends."""
    raw: RawPrompt | None = None
    """How its one message is a prompt; None for a conversation."""
    client: ClientBody | None = field(default=None, compare=False, repr=False)
    """The client's own words, where they are known. A local model has no use for them."""
    owner: str = field(default="", compare=False, repr=False)
    """Stands for the API key that the client sent, as `auth` says; it isn't the key."""
    refers_to: tuple[str, ...] = field(default=(), repr=False)
    """Ids of stored answers that it continues or quotes; empty once their text is in it."""
    answer_form: object = field(default=None, repr=False)
    """What its dialect needs to write the answer; for that dialect alone."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something of an answer that only one API has words for.

    Encoders of that dialect write it; all others skip it. As an event of Anthropic's API it is a
    piece of a block: the wire event without its index. As one of OpenAI's it is a part of a choice.
    """

    dialect: str
    data: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; None is unknown.

    `cached_tokens` is a part of `input_tokens`, and `reasoning_tokens` one of `output_tokens`.
    """

    input_tokens: int | None
    cached_tokens: int | None = 0
    output_tokens: int | None = 0
    reasoning_tokens: int | None = None
    foreign: Foreign | None = None
    """The same and more in the words of the server that answered."""

    def known(self) -> Usage:
        """The usage of the same answer when it is repeated: the whole prompt was known."""
        return replace(self, cached_tokens=self.input_tokens, foreign=None)


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is counted and accepted: the answer begins. Always the first event."""

    usage: Usage
    cache: Literal["hit", "miss"] = "miss"
    """Whether the whole answer was known already."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The engine is alive and at work, but has nothing to send yet."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call begins; its arguments follow in `ToolCallDelta`s up to a `ToolCallEnd`."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the arguments' JSON text; all pieces of a call concatenate to one object."""

    json: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """The call that was begun last is complete."""

    format: str
    """The tool-call format that it was read from, by its name in `FORMATS`."""
    constrained: bool = False
    """Whether decoding was constrained to the tool's schema."""
    repaired: bool = False
    """Whether the model's text was repaired."""
    schema_valid: bool | None = None
    """Whether the arguments conform to the schema; None if that schema can't be judged by."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. Always the last event, and exactly one of them."""

    reason: StopReason
    usage: Usage
    stop_sequence: str | None = None
    ended_by: Literal["", "loop"] = ""
    """`loop` where the answer repeated itself and was ended for it, as its limit would."""
    n_bad_calls: int = 0
    """Calls that could not be read, and went out as text."""
    foreign: Foreign | None = None
    """What else another server said about the end."""


Event = (
    Started
    | Ping
    | TextDelta
    | ThinkingDelta
    | ToolCallStart
    | ToolCallDelta
    | ToolCallEnd
    | Foreign
    | Finished
)
