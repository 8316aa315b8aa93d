"""What a format makes of a text, in lines for a person: the work behind `mlxdeck parse`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mlxdeck.server.messages import (
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolSpec,
)
from mlxdeck.server.toolcalls.formats import FORMATS
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.sink import Piece, to_json
from mlxdeck.server.toolcalls.splitter import Markers, Splitter

_THINKING = Markers("<think>", "</think>")
_UNKNOWN = re.compile(r"tool '([^']+)' was not offered")
_CALLED = re.compile(r"^\W*([A-Za-z_][\w.-]*)\(", re.MULTILINE)
_MAX_TOOLS = 64
# Without any tool on offer, nothing is read as a call.
_NOBODY = ToolSpec("\0", "", {})


def explain(text: str, *, format_: str, tools: str, complete: bool, notes: bool) -> list[str]:
    """Read a whole answer; `tools` is JSON as a client sends it, empty for any tool.

    Raises:
        ValueError: There is no such format, or `tools` holds none.
    """
    if format_ not in FORMATS:
        raise ValueError(f"no format {format_!r}; there are: {', '.join(FORMATS)}")
    form = FORMATS[format_]
    called = dict.fromkeys(_CALLED.findall(text))
    offered = _tools(tools) if tools else [ToolSpec(name, "", {}) for name in called]
    splitter, pieces = _split(text, form, offered, complete=complete)
    while not tools and len(offered) < _MAX_TOOLS and (name := _unknown(splitter)):
        offered.append(ToolSpec(name, "", {}))
        splitter, pieces = _split(text, form, offered, complete=complete)
    lines = _lines(pieces)
    if splitter.bad_calls:
        lines += [f"not a call  {bad.error}" for bad in splitter.bad_calls]
    if notes:
        lines += ["", "how:", *(f"  {place:>6}  {note}" for place, note in splitter.notes)]
    return lines


def _split(
    text: str, form: Form, offered: list[ToolSpec], *, complete: bool
) -> tuple[Splitter, list[Piece]]:
    splitter = Splitter(_THINKING, form, offered or [_NOBODY])
    return splitter, [*splitter.feed(text), *splitter.close(complete=complete)]


def _unknown(splitter: Splitter) -> str:
    for _, note in splitter.notes:
        if found := _UNKNOWN.search(note):
            return found[1]
    return ""


def _tools(raw: str) -> list[ToolSpec]:
    """A list of tools in Anthropic's or OpenAI's shape, or a request that holds one."""
    try:
        value: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"the tools are no JSON: {error}") from error
    listed = value.get("tools") if isinstance(value, dict) else value
    found = []
    for item in listed if isinstance(listed, list) else []:
        tool = item.get("function", item) if isinstance(item, dict) else {}
        schema = tool.get("input_schema") or tool.get("parameters") or {}
        if isinstance(tool.get("name"), str) and isinstance(schema, dict):
            found.append(ToolSpec(tool["name"], "", schema))
    if not found:
        raise ValueError("no tools in there: a list of them, or a request with one, is expected")
    return found


def _lines(pieces: list[Piece]) -> list[str]:
    lines: list[str] = []
    kind, said, name = "", "", ""

    def flush() -> None:
        if said:
            lines.append(f"{kind:<10}  {to_json(said)}")

    for piece in pieces:
        match piece:
            case TextDelta(text) | ThinkingDelta(text):
                now = "text" if isinstance(piece, TextDelta) else "thinking"
                if now != kind:
                    flush()
                    kind, said = now, ""
                said += text
            case ToolCallStart(_, started):
                flush()
                kind, said, name = "", "", started
            case ToolCallDelta(text):
                said += text
            case ToolCallEnd():
                fits = {True: "fits its schema", False: "breaks its schema", None: "no schema"}
                how = "mended" if piece.repaired else "as written"
                about = f"{piece.format}, {how}, {fits[piece.schema_valid]}"
                lines.append(f"{'call':<10}  {name} {said}  ({about})")
                said = ""
    flush()
    return lines
