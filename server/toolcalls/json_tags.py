"""`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

Also the form that models are shown whose template knows no tools. The tags are those of Qwen's and
NousResearch's published chat templates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlxdeck.server.messages import ToolResult, ToolSpec, ToolUse
from mlxdeck.server.toolcalls.call import Call, ToolCallError, checked
from mlxdeck.server.toolcalls.grammar import quoted
from mlxdeck.server.toolcalls.repair import decode_first


class JsonTags:
    """A JSON object between tags."""

    name = "json_tags"
    start = "<tool_call>"
    end = "</tool_call>"

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> list[Call]:
        """Read one or several objects, mending what can be mended."""
        calls = []
        rest = text.strip()
        while rest:
            try:
                value, end, repaired = decode_first(rest)
            except (ValueError, RecursionError) as error:
                raise ToolCallError(f"not JSON: {error}") from error
            calls.append(checked(value, tools, repaired=repaired))
            rest = rest[end:].lstrip(", \n\r\t")
        if not calls:
            raise ToolCallError("an empty call")
        return calls

    def rule(self, name: str, arguments: str) -> str | None:
        """The object as `write_call` writes it; the model may put line breaks around it."""
        opened = quoted(f'{{"name": {json.dumps(name)}, "arguments": ')
        return f'/\\n?/ {opened} {arguments} "}}" /\\n?/ {quoted(self.end)}'

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """List the tools' signatures, one JSON object a line, and show the form of a call."""
        lines = [
            json.dumps(
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                },
                ensure_ascii=False,
            )
            for tool in tools
        ]
        return "\n".join(
            [
                "You can call these tools. Each line is one tool, as JSON:",
                "<tools>",
                *lines,
                "</tools>",
                "To call a tool, write exactly this and nothing after it:",
                '<tool_call>{"name": "the tool", "arguments": {"a parameter": "its value"}}'
                "</tool_call>",
                "Answer in plain text when no tool is needed.",
            ]
        )

    def write_call(self, call: ToolUse) -> str:
        """One object between the tags."""
        body = json.dumps({"name": call.name, "arguments": call.input}, ensure_ascii=False)
        return f"{self.start}{body}{self.end}"

    def write_result(self, result: ToolResult) -> str:
        """The text between response tags; a failure says so."""
        error = ' status="error"' if result.is_error else ""
        return f"<tool_response{error}>\n{result.text}\n</tool_response>"
