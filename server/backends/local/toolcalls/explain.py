"""How a format parses a text, as plain values: the work behind `mlxdeck parse`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS, format_named
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import Piece
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import (
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolSpec,
)
from mlxdeck.server.tool_format_names import plug_ins

AUTO, DEFAULT = "auto", "json_tags"
_THINKING = Markers("<think>", "</think>")
_UNKNOWN = re.compile(r"tool '([^']+)' was not offered")
_CALLED = re.compile(r"^\W*([A-Za-z_][\w.-]*)\(", re.MULTILINE)
_MAX_TOOLS = 64
# Without any tool on offer, nothing is read as a call.
_NOBODY = ToolSpec("\0", "", {})


def explain(text: str, *, format_: str, tools: str, complete: bool, notes: bool) -> dict[str, Any]:
    """Read a whole answer; `tools` is JSON as a client sends it, empty for any tool.

    With `auto`, the format is the first one that finds the most calls.

    Raises:
        ValueError: There is no such format, it is a plug-in that fails, or `tools` holds none.
    """
    forms = _forms(format_, text)
    names = [form.name for form in forms]
    offered = _tools(tools) if tools else []
    read = [_read(text, form, offered, complete=complete) for form in forms]

    def told(place: int) -> tuple[int, int]:
        # Every format also reads the calls of other formats. The call's own format explains it
        # best.
        splitter, pieces = read[place]
        ends = (piece for piece in pieces if isinstance(piece, ToolCallEnd))
        return splitter.n_calls, sum(end.format == names[place] for end in ends)

    place = max(range(len(read)), key=told)
    splitter, pieces = read[place]
    found: dict[str, Any] = {"format": names[place]}
    found["blocks"] = _blocks(pieces)
    found["not_calls"] = [bad.error for bad in splitter.bad_calls]
    if notes:
        found["how"] = [{"at": place, "what": note} for place, note in splitter.notes]
    return found


def _forms(name: str, text: str) -> list[ToolFormat]:
    """Those to try, the default one first; of those that nothing in the text is of, only one."""
    if name == AUTO:
        others = [form for form in FORMATS.values() if form.name != DEFAULT]
        marked = [each for each in others if each.always or any(s in text for s in each.starts)]
        foreign = [each for each in others if each not in marked][:1]
        return [FORMATS[DEFAULT], *marked, *foreign]
    try:
        return [format_named(name)]
    except KeyError:
        known = ", ".join([AUTO, *FORMATS, *plug_ins()])
        raise ValueError(f"no format {name!r}; there are: {known}") from None


def listed() -> Iterator[str]:
    """Every format, a line each; plug-ins with the package that they come from."""
    yield from FORMATS
    for name, entry in plug_ins().items():
        yield f"{name} (plug-in of {entry.dist.name if entry.dist else entry.value})"


def _read(
    text: str, form: ToolFormat, tools: list[ToolSpec], *, complete: bool
) -> tuple[Splitter, list[Piece]]:
    """Read with the tools that are offered, or else with all that the text calls."""
    called = dict.fromkeys(_CALLED.findall(text))
    offered = list(tools) or [ToolSpec(name, "", {}) for name in called]
    splitter, pieces = _split(text, form, offered, complete=complete)
    while not tools and len(offered) < _MAX_TOOLS and (name := _unknown(splitter)):
        offered.append(ToolSpec(name, "", {}))
        splitter, pieces = _split(text, form, offered, complete=complete)
    return splitter, pieces


def _split(
    text: str, form: ToolFormat, offered: list[ToolSpec], *, complete: bool
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


def _blocks(pieces: list[Piece]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for piece in pieces:
        match piece:
            case TextDelta(text) | ThinkingDelta(text):
                kind = "text" if isinstance(piece, TextDelta) else "thinking"
                if not blocks or blocks[-1]["type"] != kind:
                    blocks.append({"type": kind, kind: ""})
                blocks[-1][kind] += text
            case ToolCallStart(_, name):
                blocks.append({"type": "tool_use", "name": name, "input": ""})
            case ToolCallDelta(text):
                blocks[-1]["input"] += text
            case ToolCallEnd(format_, _, repaired, valid):
                blocks[-1]["input"] = msgspec.json.decode(blocks[-1]["input"])
                blocks[-1] |= {"format": format_, "repaired": repaired, "schema_valid": valid}
    return blocks
