"""Calls whose parameters stand between tags, each as the text that it is.

A text parameter is not quoted, so its closing tag counts only where the call goes on behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.toolcalls.arguments import MAX_NAME
from mlxdeck.server.toolcalls.formats.form import Form
from mlxdeck.server.toolcalls.grammar import Rules, literal, parameters, quoted
from mlxdeck.server.toolcalls.repair import from_text, kinds_of, property_schema
from mlxdeck.server.toolcalls.sink import Sink, ToolCallError, to_json
from mlxdeck.server.toolcalls.source import Reading, Source


class Tagged(Form):
    """Name and parameters between tags; each pair is what stands before and after."""

    name_tags: tuple[str, str]
    key_tags: tuple[str, str]
    value_tags: tuple[str, str]
    tail: str
    """What closes a call; empty if only `closed` does."""

    @property
    def markers(self) -> tuple[str, ...]:
        """And what opens the next call."""
        return (*super().markers, self.name_tags[0])

    def read(self, source: Source, sink: Sink, start: str) -> Reading[None]:
        """Calls up to what closes them; the last end may be missing at the end of the answer."""
        begun = start.strip() == self.name_tags[0].strip()
        n_before = sink.n_calls
        while True:
            yield from source.skip()
            if begun or (yield from self._begins(source)):
                yield from self._call(source, sink)
                begun = False
            elif sink.n_calls > n_before and (yield from self._ends(source, start)):
                sink.done_to = source.place
                return
            else:
                raise ToolCallError("a call was expected")
            if not self.tail:
                return

    def _begins(self, source: Source) -> Reading[bool]:
        if not self.name_tags[0]:
            return True
        return (yield from source.match(self.name_tags[0]))

    def _ends(self, source: Source, start: str) -> Reading[bool]:
        if (yield from source.match(self.closed.strip())):
            return True
        # A call that was begun without the outer tag need not have its end.
        return start != self.starts[0] or not (yield from source.peek())

    def _call(self, source: Source, sink: Sink) -> Reading[None]:
        tool = sink.tool((yield from self._name(source)))
        sink.begin(tool)
        seen: set[str] = set()
        while not (yield from self._closed(source)):
            if not (yield from source.match(self.key_tags[0])):
                yield from source.has(1)
                raise ToolCallError("a parameter was expected")
            key, _ = yield from source.until(self.key_tags[1].strip(), at_most=MAX_NAME)
            key = key.strip().strip("\"'")
            if key in seen:
                raise ToolCallError(f"parameter {key[:64]!r} comes twice")
            sink.add(("{" if not seen else ", ") + to_json(key) + ": ")
            seen.add(key)
            if self.value_tags[0]:
                yield from source.skip()
                if not (yield from source.match(self.value_tags[0])):
                    raise ToolCallError("a value was expected")
            yield from self._value(source, sink, property_schema(tool.input_schema, key))
        sink.add("}" if seen else "{}")
        sink.end()

    def _name(self, source: Source) -> Reading[str]:
        name, _ = yield from source.until(self.name_tags[1].strip(), at_most=MAX_NAME)
        return name.strip().strip("\"'")

    def _closed(self, source: Source) -> Reading[bool]:
        yield from source.skip()
        return (yield from source.match(self.tail or self.closed.strip()))

    def _value(self, source: Source, sink: Sink, schema: Any) -> Reading[None]:
        kinds = kinds_of(schema)
        listed = isinstance(schema, dict) and ("enum" in schema or "const" in schema)
        if kinds <= {"string"} and not listed:
            sink.add('"')
            yield from self._text(source, lambda text: sink.add(to_json(text)[1:-1]))
            sink.add('"')
            return
        parts: list[str] = []
        yield from self._text(source, parts.append)
        sink.add(to_json(from_text("".join(parts), schema)))

    def _text(self, source: Source, put: Callable[[str], None]) -> Reading[None]:
        padded = self.key_tags[1].endswith("\n")
        close = self.value_tags[1].strip()
        marks = (f"\n{close}", close) if padded else (close,)
        if padded:
            yield from source.match("\n")
        while True:
            text, mark = source.certain(*marks)
            put(text)
            if mark:
                place = source.place
                yield from source.skip()
                goes_on = yield from source.any_of(self.key_tags[0], self.tail, self.closed.strip())
                ends = not goes_on and not (yield from source.peek())
                source.back(place)
                if goes_on or ends:
                    return
                put(mark)
            else:
                yield from source.more()

    def write(self, name: str, arguments: dict[str, object]) -> str:
        """Texts as they are, anything else as JSON."""
        parts = [self.name_tags[0], name, self.name_tags[1]]
        for key, value in arguments.items():
            text = value if isinstance(value, str) else to_json(value)
            parts += [self.key_tags[0], key, self.key_tags[1]]
            parts += [self.value_tags[0], text, self.value_tags[1]]
        return "".join([*parts, self.tail])

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Required parameters first; each in the order of the schema."""
        found = parameters(tool.input_schema)
        if found is None:
            return None
        required, optional = found
        head, tail = quoted(self.name_tags[0] + tool.name + self.name_tags[1]), literal(self.tail)
        needed = [self._parameter(name, tool, rules) for name in required]
        free = [f"{self._parameter(name, tool, rules)}?" for name in optional]
        return " ".join([head, *needed, *free, tail])

    def _parameter(self, name: str, tool: ToolSpec, rules: Rules) -> str:
        schema = property_schema(tool.input_schema, name)
        before = quoted(self.key_tags[0] + name + self.key_tags[1] + self.value_tags[0])
        value = value_rule(schema, tool.input_schema, self.value_tags[1], rules)
        return rules.add(f"{before} {value}")


def value_rule(schema: Any, root: dict[str, Any], suffix: str, rules: Rules) -> str:
    """An unquoted value of a schema and what ends it, as an expression."""
    schema = schema if isinstance(schema, dict) else {}
    listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(listed, list) and listed:
        texts = [each if isinstance(each, str) else json.dumps(each) for each in listed]
        return f"({' | '.join(map(quoted, texts))}) {quoted(suffix)}"
    kinds = kinds_of(schema)
    if kinds and "string" not in kinds:
        return f"{rules.json(schema, root)} {quoted(suffix)}"
    return rules.text_up_to(suffix, _pattern(schema))


def _pattern(schema: dict[str, Any]) -> str:
    """The regular expression that a text of a schema matches as a whole; empty for any text."""
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        begin = "" if pattern.startswith("^") else "(?s:.*)"
        end = "" if re.search(r"(?<!\\)\$$", pattern) else "(?s:.*)"
        return f"{begin}({pattern.removeprefix('^').removesuffix('$' if not end else '')}){end}"
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    if low or high is not None:
        return f"(?s:.{{{low},{'' if high is None else high}}})"
    return ""
