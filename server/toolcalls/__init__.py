"""Tool calls in a model's text: how they are written, found and read.

A format is one object with the five members of `ToolFormat`. `FORMATS` lists those that mlxdeck
knows itself; for any other, what the model's library knows is wrapped by `library_format`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mlxdeck.server.engine import TemplateTraits
from mlxdeck.server.messages import ToolResult, ToolSpec, ToolUse
from mlxdeck.server.toolcalls.call import Call
from mlxdeck.server.toolcalls.json_tags import JsonTags
from mlxdeck.server.toolcalls.library import LibraryFormat


class ToolFormat(Protocol):
    """One way of writing a call."""

    name: str
    start: str
    """The text that opens a call; nothing of it reaches the client."""
    end: str
    """The text that closes it; empty if only the end of the answer does."""

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> list[Call]:
        """Read what stands between the markers.

        Raises:
            ToolCallError: It is no call of an offered tool.
        """

    def rule(self, name: str, arguments: str) -> str | None:
        """What follows `start` in a call, as a grammar's expression; see `grammar.Writing`."""

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """What to say about the tools to a model whose template has no place for them."""

    def write_call(self, call: ToolUse) -> str:
        """Write a call the way `parse` reads it, markers included."""

    def write_result(self, result: ToolResult) -> str:
        """Write what a call returned."""


FORMATS: Mapping[str, ToolFormat] = {"json_tags": JsonTags()}


def choose_format(name: str, traits: TemplateTraits) -> ToolFormat:
    """Find the format by its name; `auto` goes by what the chat template shows.

    Raises:
        KeyError: There is none of that name.
    """
    if name != "auto":
        return FORMATS[name]
    markers = traits.tool_markers
    if markers and markers.name != "json_tools":
        return LibraryFormat(markers)
    return FORMATS["json_tags"]
