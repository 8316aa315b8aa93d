"""Where the parts of a request lie among the tokens of its prompt: pure.

Chat templates don't tell, so the parts are looked for in the rendered text, in their order. One
that a template has left out or rewritten is simply not found. Parts are named by their path in
the request: `system`, `tools.Read`, `messages.3`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxdeck.server.messages import ChatRequest, Message, Text, ToolResult, ToolUse

# So much of a part's beginning is looked for: enough to be found, cheap to search.
_NEEDLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the request, from `start` up to the next part's."""

    name: str
    start: int
    """Index of its first token."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a prompt, in the order of their tokens."""

    parts: tuple[Part, ...] = ()
    shared_tokens: int = 0
    """System prompt and tools: what other conversations may begin with too. 0 if there is none."""
    tail_start: int = 0
    """Where the last message has ended and what the template adds for the answer begins."""

    def boundaries(self) -> tuple[int, ...]:
        """Places from which a later prompt may go on differently: after each turn."""
        starts = [part.start for part in self.parts if part.name.startswith("messages.")]
        return tuple(sorted({self.shared_tokens, *starts, self.tail_start} - {0}))

    def part_at(self, index: int) -> tuple[str, int, int]:
        """Name of the part that a token belongs to, its start and its end; the end may be open.

        What comes before the first part belongs to it.
        """
        if not self.parts:
            return "", 0, -1
        place = max(0, bisect_right([part.start for part in self.parts], index) - 1)
        end = self.parts[place + 1].start if place + 1 < len(self.parts) else -1
        return self.parts[place].name, self.parts[place].start, end


def lay_out(request: ChatRequest, text: str, ends: Sequence[int]) -> Layout:
    """Find the parts of a request in its rendered text.

    `ends` holds for each token the number of characters up to its end; if it is empty, so is the
    layout.
    """
    if not ends:
        return Layout()
    found: list[tuple[int, str]] = []
    position = system_end = 0
    for system in request.system:
        at = text.find(_needle(system), position)
        if at >= 0:
            found += [(at, "system")] if not found else []
            position = system_end = at + 1
    position = 0 if request.messages and request.messages[0].role == "system" else system_end
    tail = 0
    for index, message in enumerate(request.messages):
        for needle, n_chars in _needles(message):
            at = text.find(needle, position)
            if at >= 0:
                if not found or found[-1][1] != f"messages.{index}":
                    found.append((at, f"messages.{index}"))
                position, tail = at + 1, at + n_chars
    starts = [at for at, name in found if name.startswith("messages.")]
    head = text[: starts[0]] if starts else text
    found += _tools(request, head)
    parts = (Part(name, bisect_right(ends, at)) for at, name in sorted(found))
    # A conversation that begins with its first message has nothing to share but a role's name.
    shared = starts[0] if starts and (request.system or request.tools) else 0
    return Layout(tuple(parts), bisect_right(ends, shared), bisect_right(ends, tail))


def _needle(text: str) -> str:
    return text.strip()[:_NEEDLE_CHARS]


def _needles(message: Message) -> Iterator[tuple[str, int]]:
    """What to look for, and how many characters the thing found is long."""
    for block in message.blocks:
        if isinstance(block, Text | ToolResult) and (needle := _needle(block.text)):
            yield needle, len(block.text.strip())
        elif isinstance(block, ToolUse):
            yield block.name, len(block.name)


def _tools(request: ChatRequest, head: str) -> Iterator[tuple[int, str]]:
    """Tools by the first mention of their quoted name before the conversation begins."""
    for tool in request.tools:
        at = head.find(f'"{tool.name}"')
        if at >= 0:
            yield at, f"tools.{tool.name}"
