"""The common part of all formats: calls in an answer, and the instructions for the model.

An answer's calls are written `start opened call between call ... closed`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolResult, ToolSpec, ToolUse
from mlxdeck.server.schemas.values import to_json


class ToolFormat:
    """One format of tool calls."""

    name: str
    signs: tuple[str, ...] = ()
    """Texts that a chat template contains, all of them, if its model uses this format."""
    starts: tuple[str, ...] = ()
    """The texts that open calls; the first is the one that is written."""
    always: bool = False
    """Whether the model uses this format for answers even if no tool is offered."""
    trigger: str = ""
    """Where a grammar takes hold, if not at the first start; `opened` has been written by then."""
    opened: str = ""
    between: str | None = None
    """None if each call has its own `start`."""
    closed: str = ""

    @property
    def markers(self) -> tuple[str, ...]:
        """All texts of the format around calls, without blanks."""
        listed = (*(start + self.opened for start in self.starts), self.opened, self.closed)
        return tuple("".join(each.split()) for each in listed)

    def fits(self, template: str) -> bool:
        """Whether a chat template shows this format."""
        return bool(self.signs) and all(sign in template for sign in self.signs)

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Read what follows a start, up to and with what closes it.

        Raises:
            ToolCallError: It is no call of an offered tool.
            CutOff: The answer ends within it.
        """
        raise NotImplementedError

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """One call, without the text around calls.

        If its tool is given, texts are written so that they can't be taken for values of another
        type.
        """
        raise NotImplementedError

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """What `write` writes, for any arguments that conform, as a grammar's expression.

        None if there is no such grammar.
        """
        raise NotImplementedError

    def grammar(
        self,
        tools: Sequence[ToolSpec],
        *,
        marked: bool,
        parallel: bool = False,
        answer: Any = None,
        blanks: bool = False,
    ) -> str | None:
        """The grammar of one call, or several, of any of the tools; or of JSON of a schema.

        Without `marked`, it covers the text after the trigger. With `blanks`, JSON may span lines.
        None if there is no such grammar.
        """
        rules = Rules(blanks=blanks)
        calls = []
        for tool in tools:
            rule = self.rule(tool, rules)
            if rule is None:
                return None
            calls.append(rules.add(rule))
        answer_rule = "" if answer is None else rules.json(answer)
        if not calls:
            return rules.text(answer_rule) if answer_rule else None
        call = f"({' | '.join(calls)})"
        more = f" ({literal(self.between)} {call})*" if parallel and self.between else ""
        opened = literal(self.opened) if marked or not self.trigger else '""'
        start = literal(self.starts[0]) if marked else '""'
        section = f"{start} {opened} {call}{more} {literal(self.closed)}"
        return rules.text(section if not answer_rule else f"{section} | {answer_rule}")

    def write_call(self, call: ToolUse, tool: ToolSpec | None = None) -> str:
        """A whole call with all text around it, as `read` reads it."""
        return (
            f"{self.starts[0]}{self.opened}{self.write(call.name, call.input, tool)}{self.closed}"
        )

    def write_result(self, result: ToolResult) -> str:
        """The text between response tags; a failure says so."""
        error = ' status="error"' if result.is_error else ""
        return f"<tool_response{error}>\n{result.text}\n</tool_response>"

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """What to say about the tools to a model whose template has no place for them.

        The tools' signatures, one JSON object a line, and the form of a call.
        """
        lines = [
            to_json(
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                }
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
                self.write_call(ToolUse("", "the tool", {"a parameter": "its value"})),
                "Answer in plain text when no tool is needed.",
            ]
        )


def json_call(
    rules: Rules, tool: ToolSpec, *, name: str = "name", arguments: str = "arguments"
) -> str:
    """The rule of a call that is one JSON object, as `to_json` writes it."""
    opened = quoted(f'{{"{name}": {json.dumps(tool.name)}, "{arguments}": ')
    return f'{opened} {rules.json(tool.input_schema)} "}}"'
