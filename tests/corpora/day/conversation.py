"""What a client says, by the hashes and the lengths of its parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

HASH_DIGITS = 12
BYTES_PER_TOKEN = 4.1
"""Of JSON, as English and code come to."""


def short_hash(*parts: object) -> str:
    """A hash as telemetry tells it, always the same for the same parts."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode(), digest_size=HASH_DIGITS // 2).hexdigest()


@dataclass(frozen=True, slots=True)
class Client:
    """The part of a request that all conversations of a program have in common."""

    name: str
    system_tokens: int
    tools: tuple[str, ...]
    dialect: str = "anthropic"
    version: int = 0
    """Another one is another system prompt, of the same length."""

    @property
    def system_hash(self) -> str:
        """Of the system prompt."""
        return short_hash("system", self.name, self.version)

    @property
    def tools_hash(self) -> str:
        """Of the tools; empty without any."""
        return short_hash("tools", self.tools) if self.tools else ""

    @property
    def shared(self) -> str:
        """What names system prompt and tools together."""
        return f"{self.system_hash}{self.tools_hash}"


_AGENT = ("Agent", "Bash", "Edit", "Glob", "Grep", "Read", "TodoWrite", "WebFetch", "Write")
MAIN = Client("main agent", 18_200, (*_AGENT, "AskUser", "NotebookEdit", "Skill", "TaskOutput"))
SIDE = Client("sub-agent", 11_400, _AGENT)
SEARCH = Client("search agent", 4_900, ("Bash", "Glob", "Grep", "Read"))
TITLE = Client("title", 310, ())
SCRIPT = Client("script", 140, (), dialect="openai")
CHECKS = Client("checks", 2_300, ("Bash", "Read"))


@dataclass(slots=True)
class Conversation:
    """A growing list of messages behind a client's system prompt."""

    name: str
    client: Client
    session_id: str = ""
    agent_id: str = ""
    parent_id: str = ""
    hashes: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """First token of each message."""
    n_tokens: int = 0

    def __post_init__(self) -> None:
        self.n_tokens = self.n_tokens or self.client.system_tokens

    def say(self, what: object, n_tokens: int) -> None:
        """Add a message."""
        self.hashes.append(short_hash(self.name, len(self.hashes), what))
        self.starts.append(self.n_tokens)
        self.n_tokens += n_tokens

    def compact(self, n_tokens: int) -> None:
        """A summary of so many tokens takes the place of everything."""
        before = self.hashes[-1:]
        self.hashes, self.starts, self.n_tokens = [], [], self.client.system_tokens
        self.say(("summary", *before), n_tokens)

    def change(self, number: int) -> None:
        """A message becomes another one of the same length."""
        self.hashes[number] = short_hash("changed", self.hashes[number])

    @property
    def key(self) -> str:
        """What decides an answer."""
        return short_hash(self.client.shared, *self.hashes)

    @property
    def body_bytes(self) -> int:
        """About what its body has."""
        return int(self.n_tokens * BYTES_PER_TOKEN) + 400


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as caches know it: the hash of every part, and where each ends."""

    parts: tuple[str, ...]
    """System prompt with tools first, then each message."""
    ends: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """All of it."""
        return self.ends[-1]

    def n_common(self, other: Prompt) -> int:
        """How many parts both begin with."""
        n = 0
        for own, their in zip(self.parts, other.parts, strict=False):
            if own != their:
                break
            n += 1
        return n


def prompt_of(conversation: Conversation) -> Prompt:
    """What is sent now."""
    starts = conversation.starts
    return Prompt(
        (conversation.client.shared, *conversation.hashes),
        (conversation.client.system_tokens, *starts[1:], conversation.n_tokens),
    )
