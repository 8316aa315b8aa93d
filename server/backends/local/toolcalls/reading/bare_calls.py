"""Calls in no known format: a fallback for models that don't know any.

There are three forms, for offered tools only. The first is a JSON object: bare, listed or in a code
fence. The second is `name({...})` or `name(key=value)`, the third the bare name of a tool without
required arguments. They count only on lines of their own, at the end of the answer: a call quoted
in prose is none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter, ToolCallError
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import read_call
from mlxdeck.server.backends.local.toolcalls.reading.python_calls import read_keywords
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec

NAME = "plain"
"""The format under which these calls are reported."""
_FENCE = "```"
_LANGUAGES = ("", "json", "tool_call", "tool_code", "tool_use", "tool", "python", "xml")
_BLANK = " \t\r\n"
_LONGEST = 1 + max(map(len, _LANGUAGES))


def candidates(tools: Sequence[ToolSpec]) -> tuple[str, ...]:
    """Names to look for, in order: those that begin in the same way stand together."""
    return tuple(sorted({tool.name for tool in tools}))


def may_begin(source: StreamReader, names: tuple[str, ...], *, alone: bool) -> Reading[bool]:
    """Whether the next text may be a call. Waits only as long as necessary, takes nothing.

    `alone` means that the answer begins here.
    """
    begin = source.place
    yield from source.skip(_BLANK if alone else " \t")
    fenced = yield from _fence(source)
    if alone:
        yield from source.match("`")
    found = fenced is not None and (yield from _opens(source, names, alone=alone and not fenced))
    source.back(begin)
    return found


def read(
    source: StreamReader, sink: CallEmitter, *, alone: bool, ends: tuple[str, ...] = ()
) -> Reading[None]:
    """Read calls up to the end of the answer; one of the `ends` may be left of a format's tags.

    Raises:
        ToolCallError: There are none, or something follows them.
        CutOff: The last one does not end.
    """
    yield from source.skip()
    fenced = bool((yield from _fence(source)))
    yield from source.skip()
    if alone:
        yield from source.match("`")
    listed = yield from source.match("[")
    while True:
        yield from source.skip()
        if (yield from source.peek()) == "{":
            yield from read_call(source, sink)
        else:
            yield from _named(source, sink, alone=alone)
        yield from source.skip(_BLANK + ",;")
        if listed and (yield from source.match("]")):
            listed = False
            yield from source.skip()
        if fenced and (yield from source.match(_FENCE)):
            fenced = False
            yield from source.skip()
        if (yield from source.any_of(*ends)):
            sink.repaired_last()
            yield from source.skip()
        if not (yield from source.peek()):
            return
        if not fenced and not listed:
            fenced = bool((yield from _fence(source)))


def _fence(source: StreamReader) -> Reading[bool | None]:
    """Pass over the line that opens a fence; None if it is one of another language."""
    if not (yield from source.match(_FENCE)):
        return False
    begin = source.place
    while (char := (yield from source.peek())) and char != "\n":
        source.take(1)
        if source.place - begin > _LONGEST:
            return None
    return True if source.since(begin).strip() in _LANGUAGES else None


def line_end(source: StreamReader) -> Reading[None]:
    """Skip the rest of a line that opens a fence."""
    begin = source.place
    while (char := (yield from source.peek())) and char != "\n":
        source.take(1)
        if source.place - begin > _LONGEST:
            return


def _named(source: StreamReader, sink: CallEmitter, *, alone: bool) -> Reading[None]:
    begin = source.place
    while (char := (yield from source.peek())) and (char.isalnum() or char in "_-.:"):
        source.take(1)
    tool = sink.tool(source.since(begin))
    if (yield from source.peek()) == "(":
        yield from read_keywords(source, sink, tool)
        return
    yield from source.skip(_BLANK + "`")
    if not alone or (yield from source.peek()) or tool.input_schema.get("required"):
        raise ToolCallError("a name alone is no call")
    sink.put(tool, {}, repaired=False)


def _opens(source: StreamReader, names: tuple[str, ...], *, alone: bool) -> Reading[bool]:
    """Whether a JSON object, a list, or the name of a tool comes next."""
    yield from source.skip()
    if (yield from source.match("[")):
        yield from source.skip()
    if (yield from source.peek()) == "{":
        return True
    name, at = "", 0
    while at < len(names) and names[at].startswith(name):
        after = yield from source.peek()
        if names[at] == name and (after == "(" or (alone and after in ("", *_BLANK, "`"))):
            return True
        if not after:
            return False
        source.take(1)
        name += after
        at = bisect_left(names, name, at)
    return False
