"""Where the parts of a request are among the tokens of its prompt: pure.

Chat templates don't report it, so the parts are searched for in the rendered text, in order. A part
that a template has removed or rewritten is not found. The name of a part is its path in the
request: `system`, `tools.Read`, `messages.3`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxdeck.server.chat import ChatRequest, Message, Text, ToolResult, ToolUse

# So much of a part's beginning is looked for: enough to be found, cheap to search.
_NEEDLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class PromptSegment:
    """A part of the request, from `start` up to the next part's."""

    name: str
    start: int
    """Index of its first token."""


@dataclass(frozen=True, slots=True)
class PromptSegments:
    """The parts of a prompt, in the order of their tokens."""

    parts: tuple[PromptSegment, ...] = ()
    shared_tokens: int = 0
    """Tokens of system prompt and tools, which other conversations may share; 0 for none."""
    tail_start: int = 0
    """End of the last message, where the template's start of the answer begins."""

    def message_starts(self) -> tuple[int, ...]:
        """Each message's first token."""
        return tuple(part.start for part in self.parts if part.name.startswith("messages."))

    def boundaries(self) -> tuple[int, ...]:
        """Places where a later prompt may diverge: after each turn."""
        places = {self.shared_tokens, *self.message_starts(), self.tail_start}
        return tuple(sorted(places - {0}))

    def n_tokens(self) -> dict[str, int]:
        """Tokens of each part; the last one ends where the last message does."""
        ends = [*(part.start for part in self.parts[1:]), self.tail_start]
        return {
            part.name: max(0, end - part.start) for part, end in zip(self.parts, ends, strict=False)
        }

    def part_at(self, index: int) -> tuple[str, int, int]:
        """Name of the part that a token belongs to, its start and its end; the end may be open.

        What comes before the first part belongs to it.
        """
        if not self.parts:
            return "", 0, -1
        place = max(0, bisect_right([part.start for part in self.parts], index) - 1)
        end = self.parts[place + 1].start if place + 1 < len(self.parts) else -1
        return self.parts[place].name, self.parts[place].start, end


def lay_out(request: ChatRequest, text: str, ends: Sequence[int]) -> PromptSegments:
    """Find the parts of a request in its rendered text.

    `ends` holds for each token the number of characters up to its end; if it is empty, so is the
    layout.
    """
    if not ends:
        return PromptSegments()
    found, tail = _messages(request, text)
    found += _tools(request, text[: found[0][0]] if found else text)
    system = _needle(request.system[0]) if request.system else ""
    if system and (at := text.find(system)) >= 0:
        found.append((at, "system"))
    starts = [at for at, name in found if name.startswith("messages.")]
    parts = (PromptSegment(name, bisect_right(ends, at)) for at, name in sorted(found))
    # A conversation that begins with its first message has nothing to share but a role's name.
    shared = min(starts) if starts and (request.system or request.tools) else 0
    return PromptSegments(tuple(parts), bisect_right(ends, shared), bisect_right(ends, tail))


def _needle(text: str) -> str:
    return text.strip()[:_NEEDLE_CHARS]


def _messages(request: ChatRequest, text: str) -> tuple[list[tuple[int, str]], int]:
    """Where each message begins, in order, and where the last one ends.

    The search starts at the back, where there is little text between two messages. So a short
    message is not confused with a word of the system prompt.
    """
    found: dict[str, int] = {}
    limit, tail = len(text), 0
    for index in range(len(request.messages) - 1, -1, -1):
        for content in reversed([*_contents(request.messages[index])]):
            at = text.rfind(content, 0, limit)
            if at < 0:
                at = text.rfind(_needle(content), 0, limit)
            if at >= 0:
                tail = tail or at + len(content)
                found[f"messages.{index}"] = limit = at
    return [(at, name) for name, at in reversed(found.items())], min(tail, len(text))


def _contents(message: Message) -> Iterator[str]:
    """What of a message a template writes out."""
    for block in message.blocks:
        if isinstance(block, Text | ToolResult) and block.text.strip():
            yield block.text.strip()
        elif isinstance(block, ToolUse):
            yield block.name


def _tools(request: ChatRequest, head: str) -> Iterator[tuple[int, str]]:
    """Tools by the first mention of their quoted name before the conversation begins."""
    for tool in request.tools:
        for quoted in (f'"name": "{tool.name}"', f'"{tool.name}"'):
            if (at := head.find(quoted)) >= 0:
                yield at, f"tools.{tool.name}"
                break
