"""`call:NAME{key:value,...}` with a marker for a quote: FunctionGemma and Gemma 4.

https://ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices. Gemma 3 has no format
of its own: its `tool_code` fences are one of the bare forms.
"""

from __future__ import annotations

import json
from typing import Any

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.text_rules import (
    separated,
    text_expressions,
    text_rule,
)
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import (
    OTHER_TYPE,
    SINGLE_QUOTES,
    CallEmitter,
    ToolCallError,
)
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, raw_string
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.lenient_json import decode_first
from mlxdeck.server.schemas.branches import ANYTHING, branch_kinds
from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import fitted, to_json

_PAIRS = {"{": "}", "(": ")"}
_COUNTED = {"minItems", "maxItems", "prefixItems", "uniqueItems", "contains"}
_IS = (":", "=")
_BARE_NAME = "/[A-Za-z_][A-Za-z0-9_-]*/"
_MAX_DEPTH, _MAX_RULES = 32, 4


class FunctionGemma(ToolFormat):
    """Bare keys, and texts between two of the same marker."""

    name = "function_gemma"
    signs: tuple[str, ...] = ("<start_function_call>",)
    starts = ("<start_function_call>",)
    closed = "<end_function_call>"
    quote = "<escape>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls up to the end marker; also as Python writes them, which these models slip into."""
        del start
        n_before = sink.n_calls
        while True:
            yield from source.skip(" \t\r\n,")
            if (yield from source.match(self.closed)):
                sink.done_to = source.place
                return
            if not (yield from source.peek()):
                return
            if not (yield from source.match("call:")) and sink.n_calls > n_before:
                raise ToolCallError("a call was expected")
            name, opened = yield from source.until(*_PAIRS, at_most=MAX_NAME)
            yield from self._call(source, sink, sink.tool(name.strip()), _PAIRS[opened])

    def _call(
        self, source: StreamReader, sink: CallEmitter, tool: ToolSpec, end: str
    ) -> Reading[None]:
        sink.begin(tool)
        sink.repair("other brackets around the arguments", when=end != "}")
        first, schema = True, Schema.of(tool.input_schema)
        yield from source.skip()
        while not (yield from source.match(end)):
            key = yield from self._key(source, sink)
            sink.add(("{" if first else ", ") + to_json(key) + ": ")
            first = False
            member = schema.member(key)
            if "string" in member.kinds and (yield from source.match(self.quote)):
                sink.add('"')
                yield from self._pieces(source, sink)
                sink.add('"')
            else:
                value = yield from self._value(source, sink)
                found = fitted(value, member)
                is_text = isinstance(found, str) and "string" not in member.kinds
                sink.repair(OTHER_TYPE, when=is_text)
                sink.add(to_json(found))
            yield from self._comma(source, end)
        sink.add("{}" if first else "}")
        sink.end()

    def _pieces(self, source: StreamReader, sink: CallEmitter) -> Reading[None]:
        while True:
            text, mark = source.certain(self.quote)
            sink.add(to_json(text)[1:-1])
            if mark:
                return
            yield from source.more()

    def _key(self, source: StreamReader, sink: CallEmitter) -> Reading[str]:
        yield from source.skip()
        if (yield from source.match(self.quote)):
            key, _ = yield from source.until(self.quote, at_most=MAX_NAME)
        elif (yield from source.peek()) in ('"', "'"):
            key = json.loads((yield from raw_string(source)))
        else:
            key, mark = yield from source.until(*_IS, at_most=MAX_NAME)
            source.back(source.place - len(mark))
        yield from source.skip()
        if not (mark := (yield from source.any_of(*_IS))):
            raise ToolCallError("a value was expected")
        sink.repair(f"{mark!r} where a colon belongs", when=mark != ":")
        yield from source.skip()
        return str(key).strip()

    def _value(self, source: StreamReader, sink: CallEmitter, depth: int = 0) -> Reading[Any]:
        if depth > _MAX_DEPTH:
            raise ToolCallError("the value is nested too deeply")
        yield from source.skip()
        if (yield from source.match(self.quote)):
            text, _ = yield from source.until(self.quote)
            return text
        if (char := (yield from source.peek())) in ('"', "'"):
            sink.repair(SINGLE_QUOTES, when=char == "'")
            return json.loads((yield from raw_string(source)))
        if (yield from source.match("[")):
            items = []
            yield from source.skip()
            while not (yield from source.match("]")):
                items.append((yield from self._value(source, sink, depth + 1)))
                yield from self._comma(source, "]")
            return items
        if (yield from source.match("{")):
            fields = {}
            yield from source.skip()
            while not (yield from source.match("}")):
                key = yield from self._key(source, sink)
                fields[key] = yield from self._value(source, sink, depth + 1)
                yield from self._comma(source, "}")
            return fields
        text, end = yield from source.until(",", "}", "]", ")", at_most=MAX_NAME)
        source.back(source.place - len(end))
        try:
            value, n, _ = decode_first(text.strip())
        except ValueError:
            return text
        return value if n == len(text.strip()) else text

    def _comma(self, source: StreamReader, end: str) -> Reading[None]:
        yield from source.skip()
        if not (yield from source.match(",")) and (yield from source.peek()) != end:
            raise ToolCallError("a comma was expected")
        yield from source.skip()

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """As the templates write it."""
        return f"call:{name}{self._written(arguments)}"

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            if self.quote in value:
                # A text can hold the marker only as JSON.
                return to_json(value)
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, dict):
            items = (f"{self._name(key)}:{self._written(each)}" for key, each in value.items())
            return "{" + ",".join(items) + "}"
        if isinstance(value, list):
            return f"[{','.join(map(self._written, value))}]"
        return to_json(value)

    @staticmethod
    def _name(key: str) -> str:
        return key if key.replace("-", "_").isidentifier() else to_json(key)

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Texts, numbers, and lists and objects of them; any other value as JSON."""
        schema = Schema.of(tool.input_schema)
        fields = self._fields(schema, rules, 0) or rules.json(tool.input_schema)
        return f"{quoted(f'call:{tool.name}')} {fields}"

    def _fields(self, schema: Schema, rules: Rules, depth: int) -> str | None:
        ways = []
        for each in schema.signatures:
            if each.other is not None:
                return None
            found = {
                name: rules.add(
                    f"{quoted(f'{self._name(name)}:')} {self._typed(told, rules, depth + 1)}"
                )
                for name, told in {**each.required, **each.optional}.items()
            }
            for order in each.orders:
                listed = [(found[name], needed) for name, _, needed in order]
                ways.append(rules.add(f'"{{" {separated(listed, ",")} "}}"'))
        return f"({' | '.join(ways)})" if ways else None

    def _typed(self, schema: Schema, rules: Rules, depth: int) -> str:
        if schema.choices is not None:
            texts = dict.fromkeys(map(self._written, schema.choices))
            return f"({' | '.join(map(self._literal, texts))})"
        as_json = rules.json(schema.standalone)
        if schema.kinds == ANYTHING:
            return f"({self._anything(rules)} | {as_json})"
        if depth > _MAX_RULES:
            # Deep inside, the grammar is that of JSON, which is read as well.
            return as_json
        ways = []
        for branch in schema.branches:
            kinds = branch_kinds(branch)
            if "string" in kinds and (told := text_expressions(branch)) is not None:
                ways.append(f"{literal(self.quote)} {text_rule(rules, self.quote, told)}")
            one = Schema(branch, schema.root)
            if kinds == {"object"} and (fields := self._fields(one, rules, depth)):
                ways.append(fields)
            elif (
                kinds == {"array"}
                and not {"minItems", "maxItems", "prefixItems", "uniqueItems", "contains"}
                & branch.keys()
            ):
                item = self._typed(one.item(0), rules, depth + 1)
                ways.append(f'"[" ({item} ("," {item})*)? "]"')
        return f"({' | '.join([*ways, as_json])})"

    def _anything(self, rules: Rules) -> str:
        text = f"{literal(self.quote)} {text_rule(rules, self.quote, ())}"
        scalar = rules.json({"type": ["number", "boolean", "null"]})
        key = rules.json({"type": "string"})
        value = rules.next_name
        field = f'({_BARE_NAME} | {key}) ":" {value}'
        listed = f'"[" ({value} ("," {value})*)? "]" | "{{" ({field} ("," {field})*)? "}}"'
        return rules.add(f"{text} | {scalar} | {listed}")

    def _literal(self, text: str) -> str:
        """A written text, with its quotes as markers."""
        if not text.startswith(self.quote):
            return quoted(text)
        inner = text[len(self.quote) : -len(self.quote)]
        return f"({literal(self.quote)} {quoted(inner)} {literal(self.quote)})"


class Gemma4(FunctionGemma):
    """The same with other markers."""

    name = "gemma4"
    signs = ("<|tool_call>", "<tool_call|>")
    starts = ("<|tool_call>",)
    closed = "<tool_call|>"
    quote = '<|"|>'
