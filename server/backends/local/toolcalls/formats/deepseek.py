"""DeepSeek's calls: V3 and R1 with a code fence around the arguments, V3.1 without.

The markers are those of the published chat templates; R1 is known to leave the outer ones out.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.sections import Sections
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"


def _spelled(marker: str) -> tuple[str, ...]:
    """A marker, or a version of it that models write with ordinary letters."""
    bars = (marker, marker.replace("｜", "|"))
    return tuple(each.replace("▁", gap) for each in bars for gap in "▁_ ")


_SEPARATORS = _spelled(_SEPARATOR)


class DeepSeekV31(Sections):
    """A name, a separator, the arguments."""

    name = "deepseek_v31"
    signs: tuple[str, ...] = (_CALL, _SEPARATOR)
    starts = (*_spelled(_CALLS), *_spelled(_CALL))
    opened = _CALL
    between = f"{_CALL_END}{_CALL}"
    closed = f"{_CALL_END}{_CALLS_END}"
    calls, call_ends, ends = _spelled(_CALL), _spelled(_CALL_END), _spelled(_CALLS_END)

    def head(self, source: StreamReader) -> Reading[str]:
        """Of either generation."""
        name = yield from self.head_up_to(source, *_SEPARATORS)
        if name.strip() == "function":
            name, _ = yield from source.until("\n", at_most=MAX_NAME)
        return name.strip()

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """Name, separator, arguments."""
        return f"{name}{_SEPARATOR}{to_json(arguments)}"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The same."""
        return f"{quoted(tool.name)} {literal(_SEPARATOR)} {rules.json(tool.input_schema)}"


class DeepSeekV3(DeepSeekV31):
    """The kind, a separator, the name, and the arguments in a fence."""

    name = "deepseek_v3"
    signs = (_CALL, _SEPARATOR, "```json")
    between = f"{_CALL_END}\n{_CALL}"

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """As the template writes it."""
        return f"function{_SEPARATOR}{name}\n```json\n{to_json(arguments)}\n```"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The same."""
        head = quoted(f"{tool.name}\n```json\n")
        arguments = rules.json(tool.input_schema)
        return f'"function" {literal(_SEPARATOR)} {head} {arguments} "\\n```"'
