"""A format that the model's own library can read, behind mlxdeck's seam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxdeck.server.engine import ToolMarkers
from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls.call import Call, ToolCallError, checked
from mlxdeck.server.toolcalls.json_tags import JsonTags
from mlxdeck.server.toolcalls.repair import decode_first


class LibraryFormat(JsonTags):
    """Markers and parser of the library; its template writes the tools, so describing is unused."""

    def __init__(self, markers: ToolMarkers) -> None:
        self.name = markers.name
        self.start = markers.start
        self.end = markers.end
        self._parse = markers.parse

    def rule(self, name: str, arguments: str) -> str | None:
        """Known only for the form that mlxdeck writes itself."""
        del name, arguments
        return None

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> list[Call]:
        """Read one call or several; string arguments that hold JSON are decoded."""
        wire = [
            {"type": "function", "function": {"name": t.name, "parameters": t.input_schema}}
            for t in tools
        ]
        try:
            found = self._parse(text, wire)
        # These parsers are regular expressions over a model's text: any of these can come out.
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, SyntaxError) as error:
            raise ToolCallError(f"{type(error).__name__}: {error}") from error
        calls = found if isinstance(found, list) else [found]
        return [checked(_decoded(call), tools) for call in calls]


def _decoded(call: Any) -> Any:
    if isinstance(call, dict) and isinstance(arguments := call.get("arguments"), str):
        try:
            return {**call, "arguments": decode_first(arguments.strip())[0]}
        except ValueError as error:
            raise ToolCallError(f"not JSON: {error}") from error
    return call
