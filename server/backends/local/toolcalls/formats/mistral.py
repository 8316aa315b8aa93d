"""`[TOOL_CALLS]name[ARGS]{...}` as Mistral writes it now, and `[TOOL_CALLS][{...}]` as it used to.

https://docs.mistral.ai and mistral-common's tokenizers v3 to v13. Nothing closes a call but the
next one, or the end of the answer.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.objects import Listed, read_objects
from mlxdeck.server.backends.local.toolcalls.formats.sections import read_none
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, read_arguments
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json

_START = "[TOOL_CALLS]"
_ARGUMENTS = "[ARGS]"
_ID = "[CALL_ID]"


def _read(source: StreamReader, sink: CallEmitter) -> Reading[None]:
    yield from source.skip()
    if (yield from source.peek()) in ("[", "{"):
        yield from read_objects(source, sink)
        return
    while True:
        name, found = yield from source.until(_ARGUMENTS, _ID, "{", at_most=MAX_NAME)
        tool = sink.tool(name.strip())
        if found == _ID:
            _, found = yield from source.until(_ARGUMENTS, "{", at_most=MAX_NAME)
        if found == "{":
            source.back(source.place - 1)
        if not (yield from read_none(source, sink, tool, _START)):
            sink.begin(tool)
            yield from read_arguments(source, sink, tool)
            sink.end()
        yield from source.skip()
        if not (yield from source.match(_START)):
            return


class Mistral(ToolFormat):
    """A name and its arguments behind a marker."""

    name = "mistral"
    signs = (_START, _ARGUMENTS)
    starts = (_START,)

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls of either generation."""
        del start
        yield from _read(source, sink)

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """Name, marker, arguments."""
        return f"{name}{_ARGUMENTS}{to_json(arguments)}"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The same."""
        return f"{quoted(tool.name)} {literal(_ARGUMENTS)} {rules.json(tool.input_schema)}"


class OldMistral(Listed):
    """A list of objects behind the same marker."""

    name = "mistral_v3"
    signs = (_START,)
    starts = (_START,)

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls of either generation."""
        del start
        yield from _read(source, sink)
