"""A model's JSON for a call's arguments, turned into strict JSON while it arrives.

Strings pass through in pieces. Other values are read as a whole, repaired and fitted to the schema
(`repair.py`). If a grammar constrains the model, no repair is necessary.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import (
    OTHER_TYPE,
    SINGLE_QUOTES,
    CallEmitter,
    ToolCallError,
)
from mlxdeck.server.backends.local.toolcalls.reading.repair import (
    RUN_CHARS,
    names_path,
    path_mended,
    run_mended,
    runs_mended,
)
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import (
    Reading,
    StreamReader,
    finish,
)
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.lenient_json import ESCAPED, decode_first
from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import fitted, has_half, to_json

NAME_KEYS = ("name", "tool", "function", "tool_name")
ARGUMENT_KEYS = ("arguments", "parameters", "input", "args")
_SIDE_KEYS = ("id", "type", "index", "call_id", "tool_call_id")
MAX_NAME = 256
_PLAIN = re.compile(r"[^\"'\\\x00-\x1f]+")
_AT_DRIVE = re.compile(r"(?:^|[^A-Za-z0-9]|\\[nrt])[A-Za-z]:$")
_WORD = re.compile(r"[^\s,:\[\](){}\"'<]+")
_QUOTES = ('"', "'")
_AFTER = ("]", "}", ")", ",")
_CLOSING = ("</tool_call>", "</function>", "</tools>", "</function_call>", "</invoke>")
_BACKSLASHES = "single backslashes in a path"
_NOWHERE = CallEmitter("", (), constrained=False)


def read_arguments(source: StreamReader, sink: CallEmitter, tool: ToolSpec) -> Reading[None]:
    """The next object, as the arguments of the open call.

    Raises:
        ToolCallError: There is none, or it can't be repaired.
    """
    yield from source.skip()
    if not (yield from source.match("{")):
        raise ToolCallError("the arguments are no JSON object")
    sink.add("{")
    first, schema = True, Schema.of(tool.input_schema)
    while True:
        yield from source.skip_comments()
        if (yield from source.match("}")) or (not first and (yield from _ended(source, sink))):
            sink.add("}")
            return
        key = yield from _key(source, sink)
        sink.add(("" if first else ", ") + to_json(key) + ": ")
        first = False
        yield from _colon(source)
        yield from read_value(source, sink, schema.member(key), path=names_path(key))
        yield from _separator(source, sink)


def _key(source: StreamReader, sink: CallEmitter) -> Reading[str]:
    if (yield from source.peek()) in _QUOTES:
        key = json.loads((yield from _string(source, sink)))
        return str(key)
    yield from source.has(1)
    key = yield from _word(source)
    if not key:
        raise ToolCallError("not JSON: a key was expected")
    sink.repair("a name without quotes")
    return str(key)


def _colon(source: StreamReader) -> Reading[None]:
    yield from source.skip_comments()
    if not (yield from source.match(":")):
        raise ToolCallError("not JSON: a colon was expected")
    yield from source.skip_comments()


def read_value(
    source: StreamReader,
    sink: CallEmitter,
    schema: Schema,
    *,
    path: bool = False,
    python: bool = False,
) -> Reading[None]:
    """The value that comes next, as one of the open call's.

    `path` says that a text is one; with `python`, literals are Python's.

    Raises:
        ToolCallError: It is broken beyond repair.
    """
    quoted = (yield from source.peek()) in _QUOTES
    if quoted and (sink.constrained or "string" in schema.kinds):
        sink.add((yield from _string(source, sink, emit=not path, path=path)))
        return
    if sink.constrained and not python:
        yield from raw_value(source, sink)
        return
    raw = yield from raw_value(source)
    mended_raw = runs_mended(raw)
    try:
        value, end, mended = decode_first(mended_raw)
        if mended_raw[end:].strip():
            raise ToolCallError("not JSON: a comma was expected")
        found = value if sink.constrained else fitted(value, schema)
        text = to_json(found)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ToolCallError):
            raise
        raise ToolCallError(f"not JSON: {error}") from error
    sink.repair(
        "a value that was not quite JSON", when=not python and (mended or raw != mended_raw)
    )
    sink.repair(OTHER_TYPE, when=found != value or type(found) is not type(value))
    sink.repair("half of a surrogate pair", when=has_half(found))
    sink.add(text)


def _ended(source: StreamReader, sink: CallEmitter) -> Reading[bool]:
    """Whether what closes the call comes where its arguments should have been closed."""
    if sink.constrained or (yield from source.peek()) != "<":
        return False
    begin = source.place
    found = yield from source.any_of(*_CLOSING)
    source.back(begin)
    sink.repair("arguments that were not closed", when=bool(found))
    return bool(found)


def _separator(source: StreamReader, sink: CallEmitter) -> Reading[None]:
    yield from source.skip_comments()
    if (yield from source.match(",")):
        yield from source.skip_comments()
        sink.repair("a trailing comma", when=(yield from source.peek()) == "}")
    elif (yield from source.peek()) != "}" and not (yield from _ended(source, sink)):
        raise ToolCallError("not JSON: a comma was expected")


def _string(
    source: StreamReader, sink: CallEmitter, *, emit: bool = False, path: bool = False
) -> Reading[str]:
    """The next string in double quotes; with `emit`, only the part that was not emitted."""
    quote = source.take(1)
    sink.repair(SINGLE_QUOTES, when=quote == "'")
    out = ['"']
    begin = source.place
    while True:
        out.append(source.span(_PLAIN))
        if emit:
            # Also a letter that came alone: the rest may be long in coming, or cut off.
            sink.add("".join(out))
            out.clear()
        char = yield from source.peek()
        if not char:
            yield from source.more()
        elif char == quote:
            raw = source.since(begin)
            source.take(1)
            if path and (mended := path_mended(raw)) != raw:
                sink.repair(_BACKSLASHES)
                return f'"{mended}"'
            out.append('"')
            return "".join(out)
        elif char == "\\":
            out.append((yield from _drive(source, sink)) or (yield from _escape(source, sink)))
        elif char not in _QUOTES and char < " ":
            sink.repair("a control character that was not escaped")
            out.append(ESCAPED.get(char) or f"\\u{ord(char):04x}")
            source.take(1)
        else:
            out.append('\\"' if char == '"' else char)
            source.take(1)


def raw_string(source: StreamReader) -> Reading[str]:
    """The string that comes next, as strict JSON."""
    return (yield from _string(source, _NOWHERE))


def _drive(source: StreamReader, sink: CallEmitter) -> Reading[str]:
    """A Windows path with single backslashes, repaired by doubling them."""
    begin = source.place
    source.back(max(0, begin - 4))
    before = source.take(begin - source.place)
    if not _AT_DRIVE.search(before):
        return ""
    while True:
        source.span(RUN_CHARS)
        char = yield from source.peek()
        if not char:
            yield from source.more()
        elif not RUN_CHARS.match(char):
            break
    if char in _QUOTES and source.since(begin).endswith("\\"):
        source.back(source.place - 1)
    run = source.since(begin)
    whole = before[-3] == char and char in _QUOTES and before[-2].isupper()
    if (mended := run_mended(run, whole=whole)) != run:
        sink.repair(_BACKSLASHES)
        return mended
    source.back(begin)
    return ""


def _escape(source: StreamReader, sink: CallEmitter) -> Reading[str]:
    if not (yield from source.has(2)):
        yield from source.more()
    pair = source.take(2)
    if pair[1] == "u":
        if not (yield from source.has(4)):
            yield from source.more()
        digits = source.take(4)
        if re.fullmatch("[0-9a-fA-F]{4}", digits):
            return (yield from _code_unit(source, sink, pair + digits))
        source.back(source.place - 4)
    elif pair[1] in '"\\/bfnrt':
        return pair
    # JSON knows no other escapes; \' is a quote, the rest are backslashes that mean themselves.
    sink.repair("an escape that JSON lacks")
    if pair[1] == "'":
        return "'"
    return "\\\\" + (ESCAPED.get(pair[1]) or pair[1])


def _code_unit(source: StreamReader, sink: CallEmitter, escape: str) -> Reading[str]:
    """An escape, with its other half if it is one of a pair; a half alone is no character."""
    code = int(escape[2:], 16)
    if not 0xD800 <= code <= 0xDFFF:
        return escape
    if code < 0xDC00 and (yield from source.match("\\u")):
        there = yield from source.has(4)
        digits = source.take(4)
        if there and re.fullmatch("[dD][c-fC-F][0-9a-fA-F]{2}", digits):
            return f"{escape}\\u{digits}"
        source.back(source.place - len(digits) - 2)
    sink.repair("half of a surrogate pair")
    return "\ufffd"


def _word(source: StreamReader) -> Reading[str]:
    """A bare word, up to the first character that can't be part of it."""
    word = ""
    while True:
        part = source.span(_WORD)
        word += part
        if source.n_held or not (yield from source.peek()):
            return word


def _mark(source: StreamReader, *, commented: bool) -> Reading[int]:
    """Pass over a word, a comment or one character; by how much that goes deeper."""
    begin, char = source.place, (yield from source.peek())
    if commented and char in "/#":
        yield from source.skip_comments()
    if source.place == begin and not source.span(_WORD):
        source.take(1)
    return (char in "[{(") - (char in "]})")


def raw_value(source: StreamReader, sink: CallEmitter | None = None) -> Reading[str]:
    """The text of the value that comes next: brackets balanced, strings skipped, not decoded.

    With a sink, it goes there while it arrives.
    """
    begin = sent = source.place
    depth = 0
    while True:
        char = yield from source.peek()
        if not char:
            if not depth and source.since(begin).strip():
                return source.since(begin)
            yield from source.more()
        if not depth and (char in _AFTER or char == "<"):
            return source.since(begin)
        if char in _QUOTES:
            text = yield from _string(source, sink or _NOWHERE, emit=sink is not None)
            if sink:
                sink.add(text)
            sent = source.place
        else:
            depth += yield from _mark(source, commented=depth > 0 and not sink)
        if sink:
            sink.add(source.since(sent))
            sent = source.place
        if not depth and (char in _QUOTES or char in _AFTER):
            return source.since(begin)


@dataclass(slots=True)
class _Call:
    """The known part of a call that is one JSON object."""

    tool: ToolSpec | None = None
    begun: bool = False
    whole: bool = False
    waiting: str = ""
    beside: dict[str, str] = field(default_factory=dict)
    """Parameters beside the name, as JSON."""


def read_call(source: StreamReader, sink: CallEmitter) -> Reading[None]:
    """`{"name": ..., "arguments": {...}}` in any order, with the key names that models use.

    Raises:
        ToolCallError: It is none, or its tool was not offered.
    """
    yield from source.skip()
    if not (yield from source.match("{")):
        raise ToolCallError("not a JSON object")
    call = _Call()
    while not (yield from _closed(source)):
        key = yield from _key(source, sink)
        yield from _colon(source)
        yield from _field(source, sink, key, call)
        yield from source.skip_comments()
        if not (yield from source.match(",")) and (yield from source.peek()) != "}":
            if not call.begun:
                raise ToolCallError("not JSON: a comma was expected")
            # The arguments are whole; a forgotten last brace takes nothing from them.
            sink.repair("a call that was not closed")
            break
    if call.begun:
        sink.end()
    elif call.tool is not None:
        # The arguments came before the name, beside it, as a text, or not at all.
        if not call.beside.keys() >= set(call.tool.input_schema.get("required") or ()):
            call.beside.clear()
        beside = ", ".join(f"{to_json(key)}: {each}" for key, each in call.beside.items())
        put_text(sink, call.tool, call.waiting or (beside and f"{{{beside}}}"))
    elif not call.whole:
        raise ToolCallError("no tool name")


def _field(source: StreamReader, sink: CallEmitter, key: str, call: _Call) -> Reading[None]:
    opens = yield from source.peek()
    if key in NAME_KEYS and call.tool is None and opens == "{":
        # As OpenAI's API writes it: the call is an object in the object.
        yield from read_call(source, sink)
        call.whole = True
    elif key in NAME_KEYS and call.tool is None and opens in _QUOTES:
        call.tool = sink.tool(json.loads((yield from _string(source, sink))))
    elif key in ARGUMENT_KEYS and call.tool is not None and opens == "{" and not call.begun:
        sink.begin(call.tool)
        yield from read_arguments(source, sink, call.tool)
        call.begun = True
    elif key in ARGUMENT_KEYS and not call.begun:
        call.waiting = yield from raw_value(source)
    elif call.tool is not None and key in Schema.of(call.tool.input_schema).names:
        call.beside[key] = yield from raw_value(source)
    elif key in _SIDE_KEYS or call.tool is not None:
        yield from raw_value(source)
    else:
        raise ToolCallError(f"a call has no {key[:32]!r}")


def _closed(source: StreamReader) -> Reading[bool]:
    yield from source.skip_comments()
    return (yield from source.match("}"))


def put_text(sink: CallEmitter, tool: ToolSpec, arguments: str) -> None:
    """A call whose arguments are known as text; an empty one means that there were none.

    Raises:
        ToolCallError: They are no object, or there are none where the tool needs some.
    """
    text = arguments.strip()
    if text[:1] in _QUOTES:
        try:
            text = str(decode_first(text)[0]).strip()
        except ValueError as error:
            raise ToolCallError(f"not JSON: {error}") from error
    if text in ("", "null", "None"):
        if tool.input_schema.get("required"):
            raise ToolCallError("no arguments")
        text = "{}"
    sink.begin(tool)
    sink.repaired = text != arguments.strip() and arguments.strip() != ""
    finish(read_arguments(StreamReader(text, ended=True), sink, tool))
    sink.end()
