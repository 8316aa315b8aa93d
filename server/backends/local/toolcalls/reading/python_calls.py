"""Calls as Python writes them: a name, and keywords between parentheses."""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, ToolCallError
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import (
    MAX_NAME,
    read_arguments,
    read_value,
)
from mlxdeck.server.backends.local.toolcalls.reading.repair import names_path
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import to_json


def read_keywords(source: StreamReader, sink: CallEmitter, tool: ToolSpec) -> Reading[None]:
    """`(key=value, ...)` as the whole call of a tool; also `({...})`.

    Raises:
        ToolCallError: It is none.
    """
    if not (yield from source.match("(")):
        raise ToolCallError("no arguments")
    yield from source.skip()
    sink.begin(tool)
    if (yield from source.peek()) == "{":
        yield from read_arguments(source, sink, tool)
        yield from source.skip()
        if not (yield from source.match(")")):
            raise ToolCallError("the call is not closed")
        sink.end()
        return
    first, schema = True, Schema.of(tool.input_schema)
    while not (yield from source.match(")")):
        key = (yield from source.until("=", ")", at_most=MAX_NAME))[0].strip()
        if not key.isidentifier():
            raise ToolCallError("no keyword arguments")
        sink.add(("{" if first else ", ") + to_json(key) + ": ")
        first = False
        yield from source.skip()
        # Python's quotes are no mistakes here.
        mended, repairs = sink.repaired, [*sink.repairs]
        yield from read_value(source, sink, schema.member(key), path=names_path(key), python=True)
        sink.repaired, sink.repairs = mended, repairs
        yield from source.skip()
        if not (yield from source.match(",")) and (yield from source.peek()) != ")":
            raise ToolCallError("the call is not closed")
        yield from source.skip()
    if first and tool.input_schema.get("required"):
        raise ToolCallError("no arguments")
    sink.add("{}" if first else "}")
    sink.end()


def read_named(source: StreamReader, sink: CallEmitter) -> Reading[bool]:
    """Read such a call of an offered tool, if one comes next; whether it does."""
    begin = source.place
    for tool in sorted(sink.offered, key=lambda tool: len(tool.name), reverse=True):
        if (yield from source.match(tool.name)) and (yield from source.peek()) == "(":
            yield from read_keywords(source, sink, tool)
            return True
        source.back(begin)
    return False
