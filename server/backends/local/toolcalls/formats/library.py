"""A format that only the model's own library can read, behind mlxdeck's seam."""

from __future__ import annotations

from typing import Any

from mlxdeck.server.backends.local.engine.api import ToolMarkers
from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.formats.json_tags import JsonTags
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, ToolCallError
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import put_text
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json


class LibraryFormat(JsonTags):
    """Markers and parser of the library; its template writes the tools, so describing is unused."""

    def __init__(self, markers: ToolMarkers) -> None:
        self.name = markers.name
        self.starts = (markers.start,)
        self.closed = markers.end
        self._parse = markers.parse

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The library only reads."""
        del tool, rules
        return None

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """One call or several, once they are there as a whole."""
        del start
        text = yield from self._whole(source)
        offered = [
            {"type": "function", "function": {"name": tool.name, "parameters": tool.input_schema}}
            for tool in sink.offered
        ]
        try:
            found = self._parse(text, offered)
        # These parsers are regular expressions over a model's text: any of these can come out.
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, SyntaxError) as error:
            raise ToolCallError(f"{type(error).__name__}: {error}") from error
        for call in found if isinstance(found, list) else [found]:
            self._put(call, sink)

    def _whole(self, source: StreamReader) -> Reading[str]:
        if self.closed:
            return (yield from source.until(self.closed))[0]
        begin = source.place
        while (yield from source.peek()):
            source.take(source.n_held)
        return source.since(begin)

    @staticmethod
    def _put(call: Any, sink: CallEmitter) -> None:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ToolCallError("no tool name")
        arguments = call.get("arguments")
        text = arguments if isinstance(arguments, str) else to_json(arguments)
        put_text(sink, sink.tool(call["name"]), text)
