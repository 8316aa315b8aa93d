"""`[name(key=value), ...]`, calls as Python writes them: LFM2 and Llama 4, behind a marker.

Without one, as Llama 3.2 writes them, they are one of the plain forms.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls.arguments import MAX_NAME, read_keywords
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.grammar import Rules, comma_list, parameters, quoted
from mlxdeck.server.toolcalls.repair import kinds_of, property_schema
from mlxdeck.server.toolcalls.sink import Sink, ToolCallError, to_json
from mlxdeck.server.toolcalls.source import Reading, Source

_LITERALS = {"boolean": '("True" | "False")', "null": '"None"'}


class Pythonic(Form):
    """A list of calls."""

    name = "pythonic"
    signs = ("<|tool_call_start|>",)
    starts = ("<|tool_call_start|>",)
    opened = "["
    between = ", "
    closed = "]<|tool_call_end|>"
    end = "<|tool_call_end|>"

    def read(self, source: Source, sink: Sink, start: str) -> Reading[None]:
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

    def write(self, name: str, arguments: dict[str, object]) -> str:
        """A call with keywords."""
        words = ", ".join(f"{key}={python(value)}" for key, value in arguments.items())
        return f"{name}({words})"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Values as JSON, but for Python's own literals."""
        found = parameters(tool.input_schema)
        if found is None:
            return None
        required, optional = ([self._keyword(key, tool, rules) for key in part] for part in found)
        words = comma_list(required, optional)
        return f'{quoted(f"{tool.name}(")} {words} ")"'

    def _keyword(self, key: str, tool: ToolSpec, rules: Rules) -> str:
        schema = property_schema(tool.input_schema, key)
        schema = schema if isinstance(schema, dict) else {}
        kinds = kinds_of(schema)
        (only,) = kinds if len(kinds) == 1 else ("",)
        value = _LITERALS.get(only) if "enum" not in schema and "const" not in schema else None
        return rules.add(f"{quoted(f'{key}=')} {value or rules.json(schema, tool.input_schema)}")


class Llama4(Pythonic):
    """The same between other markers."""

    name = "llama4"
    signs = ("<|python_start|>",)
    starts = ("<|python_start|>",)
    closed = "]<|python_end|>"
    end = "<|python_end|>"


def python(value: Any) -> str:
    """A JSON value as Python writes it, its texts in double quotes."""
    if isinstance(value, dict):
        items = (f"{to_json(key)}: {python(each)}" for key, each in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(python, value))}]"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, str | int | float):
        return to_json(value)
    raise ToolCallError(f"no JSON: {type(value).__name__}")
