"""Calls as a JSON list of objects behind a marker: Granite, Phi, the older Mistral, Llama 3.

The markers are those of the models' published chat templates.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat, json_call
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, ToolCallError
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import read_call
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json


def read_objects(source: StreamReader, sink: CallEmitter, *ends: str) -> Reading[None]:
    """Calls, listed or one after the other, up to an end marker or the end of the answer.

    Raises:
        ToolCallError: Something else.
    """
    yield from source.skip()
    if (yield from source.match("```")):
        # Between the tags, a fence is nothing but one more wrapping.
        yield from source.until("\n")
        yield from source.skip()
    listed = yield from source.match("[")
    n_before = sink.n_calls
    while True:
        yield from source.skip(" \t\r\n,;")
        if sink.n_calls > n_before and (yield from source.match("```")):
            continue
        if (yield from source.peek()) == "{":
            yield from read_call(source, sink)
        elif listed and (yield from source.match("]")):
            listed = False
            sink.done_to = source.place
        elif (yield from source.any_of(*ends)):
            break
        elif not (yield from source.peek()) or (not ends and not listed):
            # Without an end marker, what follows the list is text.
            break
        else:
            raise ToolCallError("a call was expected")
    if sink.n_calls == n_before:
        raise ToolCallError("an empty call")


class Listed(ToolFormat):
    """A JSON list behind a marker."""

    opened = "["
    between = ", "
    closed = "]"
    ends: tuple[str, ...] = ()

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """The list; models also leave out its brackets."""
        del start
        yield from read_objects(source, sink, *self.ends)

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """One object."""
        return to_json({"name": name, "arguments": arguments})

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The object as `write` writes it."""
        return json_call(rules, tool)
