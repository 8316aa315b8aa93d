"""`[name(key=value), ...]`, calls as Python writes them: LFM2 and Llama 4, behind a marker.

Without one, as Llama 3.2 writes them, they are one of the plain forms.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.text_rules import separated
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME
from mlxdeck.server.backends.local.toolcalls.reading.python_calls import read_keywords
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import to_json

_WORDS = {"boolean": ("True", "False"), "null": ("None",)}


class Pythonic(ToolFormat):
    """A list of calls."""

    name = "pythonic"
    signs = ("<|tool_call_start|>",)
    starts = ("<|tool_call_start|>",)
    opened = "["
    between = ", "
    closed = "]<|tool_call_end|>"
    end = "<|tool_call_end|>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls up to the end marker; models also leave the brackets out."""
        del start
        yield from source.skip()
        listed = yield from source.match("[")
        while True:
            yield from source.skip(" \t\r\n,")
            if listed and (yield from source.match("]")):
                listed = False
            elif (yield from source.match(self.end)) or not (yield from source.peek()):
                sink.done_to = source.place
                return
            else:
                name, _ = yield from source.until("(", at_most=MAX_NAME)
                source.back(source.place - 1)
                yield from read_keywords(source, sink, sink.tool(name.strip()))

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """A call with keywords."""
        words = ", ".join(f"{key}={_python(value)}" for key, value in arguments.items())
        return f"{name}({words})"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Values as JSON, but for Python's own literals; an object where keywords won't do."""
        ways = self._ways(Schema.of(tool.input_schema), rules)
        words = f"({' | '.join(ways)})" if ways else rules.json(tool.input_schema)
        return f'{quoted(f"{tool.name}(")} {words} ")"'

    def _ways(self, schema: Schema, rules: Rules) -> list[str]:
        ways = []
        for each in schema.signatures:
            names = (*each.required, *each.optional)
            if each.other is not None or not all(map(str.isidentifier, names)):
                return []
            named = {**each.required, **each.optional}
            found = {name: self._keyword(name, told, rules) for name, told in named.items()}
            for order in each.orders:
                listed = [(found[name], needed) for name, _, needed in order]
                ways.append(rules.add(separated(listed)))
        return ways

    @staticmethod
    def _keyword(key: str, schema: Schema, rules: Rules) -> str:
        if schema.choices is not None:
            texts = dict.fromkeys(_python(value) for value in schema.choices)
            return rules.add(f"{quoted(f'{key}=')} ({' | '.join(map(quoted, texts))})")
        kinds = schema.kinds
        words = [word for kind, each in _WORDS.items() if kind in kinds for word in each]
        ways = [quoted(word) for word in words]
        if not kinds <= _WORDS.keys():
            ways.append(rules.json(schema.standalone))
        return rules.add(f"{quoted(f'{key}=')} ({' | '.join(ways)})")


class Llama4(Pythonic):
    """The same between other markers."""

    name = "llama4"
    signs = ("<|python_start|>",)
    starts = ("<|python_start|>",)
    closed = "]<|python_end|>"
    end = "<|python_end|>"


def _python(value: Any) -> str:
    """A value as a keyword's: Python's literal, or JSON, which is nearly Python."""
    return str(value) if isinstance(value, bool) or value is None else to_json(value)
