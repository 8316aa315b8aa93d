"""`call:NAME{key:value,...}` with a marker for a quote: FunctionGemma and Gemma 4.

https://ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices. Gemma 3 has no format
of its own: what it writes in a `tool_code` fence is one of the plain forms.
"""

from __future__ import annotations

from typing import Any

from mlxdeck.server.lenient_json import decode_first
from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls.arguments import MAX_NAME
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.grammar import Rules, comma_list, literal, parameters, quoted
from mlxdeck.server.toolcalls.repair import coerced, kinds_of, property_schema
from mlxdeck.server.toolcalls.sink import Sink, ToolCallError, to_json
from mlxdeck.server.toolcalls.source import Reading, Source

_SCALARS = frozenset({"integer", "number", "boolean", "null"})


class FunctionGemma(Form):
    """Bare keys, and texts between two of the same marker."""

    name = "function_gemma"
    signs: tuple[str, ...] = ("<start_function_call>",)
    starts = ("<start_function_call>",)
    closed = "<end_function_call>"
    quote = "<escape>"

    def read(self, source: Source, sink: Sink, start: str) -> Reading[None]:
        """Calls up to the end marker."""
        del start
        while True:
            yield from source.skip(" \t\r\n,")
            if (yield from source.match(self.closed)) or not (yield from source.peek()):
                sink.done_to = source.place
                return
            if not (yield from source.match("call:")):
                raise ToolCallError("a call was expected")
            name, _ = yield from source.until("{", at_most=MAX_NAME)
            yield from self._call(source, sink, sink.tool(name.strip()))

    def _call(self, source: Source, sink: Sink, tool: ToolSpec) -> Reading[None]:
        sink.begin(tool)
        first = True
        while not (yield from source.match("}")):
            key = yield from self._key(source)
            sink.add(("{" if first else ", ") + to_json(key) + ": ")
            first = False
            schema = property_schema(tool.input_schema, key)
            if kinds_of(schema) <= {"string"} and (yield from source.match(self.quote)):
                sink.add('"')
                yield from self._pieces(source, sink)
                sink.add('"')
            else:
                value = yield from self._value(source)
                sink.add(to_json(coerced(value, schema)))
            yield from self._comma(source, "}")
        sink.add("{}" if first else "}")
        sink.end()

    def _pieces(self, source: Source, sink: Sink) -> Reading[None]:
        while True:
            text, mark = source.certain(self.quote)
            sink.add(to_json(text)[1:-1])
            if mark:
                return
            yield from source.more()

    def _key(self, source: Source) -> Reading[str]:
        yield from source.skip()
        if (yield from source.match(self.quote)):
            key, _ = yield from source.until(self.quote, at_most=MAX_NAME)
            yield from source.match(":")
        else:
            key, _ = yield from source.until(":", at_most=MAX_NAME)
        yield from source.skip()
        return str(key).strip().strip('"')

    def _value(self, source: Source) -> Reading[Any]:
        yield from source.skip()
        if (yield from source.match(self.quote)):
            text, _ = yield from source.until(self.quote)
            return text
        if (yield from source.match("[")):
            items = []
            while not (yield from source.match("]")):
                items.append((yield from self._value(source)))
                yield from self._comma(source, "]")
            return items
        if (yield from source.match("{")):
            fields = {}
            while not (yield from source.match("}")):
                key = yield from self._key(source)
                fields[key] = yield from self._value(source)
                yield from self._comma(source, "}")
            return fields
        text, end = yield from source.until(",", "}", "]", at_most=MAX_NAME)
        source.back(source.place - len(end))
        try:
            value, n, _ = decode_first(text.strip())
        except ValueError:
            return text
        return value if n == len(text.strip()) else text

    def _comma(self, source: Source, end: str) -> Reading[None]:
        yield from source.skip()
        if not (yield from source.match(",")) and (yield from source.peek()) != end:
            raise ToolCallError("a comma was expected")
        yield from source.skip()

    def write(self, name: str, arguments: dict[str, object]) -> str:
        """As the templates write it."""
        return f"call:{name}{self._written(arguments)}"

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, dict):
            return (
                "{" + ",".join(f"{key}:{self._written(each)}" for key, each in value.items()) + "}"
            )
        if isinstance(value, list):
            return f"[{','.join(map(self._written, value))}]"
        return to_json(value)

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Texts, numbers, and lists and objects of them."""
        fields = self._fields(tool.input_schema, tool.input_schema, rules)
        return fields and f"{quoted(f'call:{tool.name}')} {fields}"

    def _fields(self, schema: Any, root: dict[str, Any], rules: Rules) -> str | None:
        found = parameters(schema)
        if found is None:
            return None
        parts: list[list[str]] = [[], []]
        for part, names in zip(parts, found, strict=True):
            for name in names:
                value = self._typed(property_schema(schema, name), root, rules)
                if value is None:
                    return None
                part.append(rules.add(f"{quoted(f'{name}:')} {value}"))
        return f'"{{" {comma_list(parts[0], parts[1], ",")} "}}"'

    def _typed(self, schema: Any, root: dict[str, Any], rules: Rules) -> str | None:
        schema = schema if isinstance(schema, dict) else {}
        kinds = kinds_of(schema)
        quote = literal(self.quote)
        listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(listed, list) and all(isinstance(each, str) for each in listed):
            return f"{quote} ({' | '.join(map(quoted, listed))}) {quote}"
        if kinds and kinds <= _SCALARS:
            return rules.json(schema, root)
        if kinds <= {"string"} and not {"pattern", "minLength", "maxLength"} & schema.keys():
            return f"{quote} {rules.text_up_to(self.quote)}"
        if kinds == {"object"}:
            return self._fields(schema, root, rules)
        if kinds == {"array"} and not {"minItems", "maxItems", "prefixItems"} & schema.keys():
            item = self._typed(schema.get("items"), root, rules)
            return item and f'"[" ({item} ("," {item})*)? "]"'
        return None


class Gemma4(FunctionGemma):
    """The same with other markers."""

    name = "gemma4"
    signs = ("<|tool_call>", "<tool_call|>")
    starts = ("<|tool_call>",)
    closed = "<tool_call|>"
    quote = '<|"|>'
