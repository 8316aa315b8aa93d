"""Kimi K2's calls: a section of them, each with an id `functions.NAME:NUMBER`.

https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/docs/tool_call_guidance.md
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.sections import Sections
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json

_SECTION, _SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
_CALL, _CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"


class KimiK2(Sections):
    """Calls with an id."""

    name = "kimi_k2"
    signs = (_SECTION,)
    # The second is a slip that the model is known for.
    starts = (_SECTION, "<|tool_call_section_begin|>", _CALL)
    opened = _CALL
    between = f"{_CALL_END}{_CALL}"
    closed = f"{_CALL_END}{_SECTION_END}"
    calls, call_ends = (_CALL,), (_CALL_END,)
    ends = (_SECTION_END, "<|tool_call_section_end|>")

    def head(self, source: StreamReader) -> Reading[str]:
        """The name within the id."""
        text = yield from self.head_up_to(source, _ARGUMENTS)
        name, _, number = text.strip().removeprefix("functions.").rpartition(":")
        return name if name and number.isdigit() else text.strip()

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """Id, marker, arguments."""
        return f"functions.{name}:0{_ARGUMENTS}{to_json(arguments)}"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The same, with any number."""
        head = f"{quoted(f'functions.{tool.name}:')} /[0-9]{{1,3}}/ {literal(_ARGUMENTS)}"
        return f"{head} {rules.json(tool.input_schema)}"
