"""Calls whose parameters are between tags, each as plain text.

A text is not quoted. So the call's tool and the nesting of tags decide where it ends. A text that
could still be misread is written as a JSON string (`schemas/values.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.tags import Payload, Tags, bare
from mlxdeck.server.backends.local.toolcalls.formats.text_rules import value_rule
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import (
    OTHER_TYPE,
    CallEmitter,
    ToolCallError,
)
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, read_arguments
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.shape import Schema, Signature
from mlxdeck.server.schemas.values import from_text, to_json, to_text

_OTHER_NAME = r"/[A-Za-z_][A-Za-z0-9_.-]{0,63}/"


@dataclass(slots=True)
class _Open:
    """The call that is being read."""

    schema: Schema
    bare: bool
    """Whether the outer tag is missing."""
    seen: set[str] = field(default_factory=set)

    def expects(self, name: str) -> bool:
        """Whether a parameter of that name may come."""
        return name not in self.seen and (name in self.schema.names or self.schema.is_open)


class Tagged(ToolFormat):
    """Tags of name and parameters; each pair is the text before and after."""

    name_tags: tuple[str, str]
    key_tags: tuple[str, str]
    value_tags: tuple[str, str]
    tail: str
    """What closes a call; empty if only `closed` does."""

    @property
    def markers(self) -> tuple[str, ...]:
        """And what opens the next call."""
        return (*super().markers, "".join(self.name_tags[0].split()))

    @property
    def tags(self) -> Tags:
        """What may end a text, or be a part of one."""
        return Tags(
            opens=self.name_tags[0] or self.starts[0],
            ends=self.tail or self.closed.strip(),
            key=self.key_tags[0],
            key_end=self.key_tags[1].strip(),
            value=self.value_tags[0],
            close=self.value_tags[1].strip(),
            outer=tuple(dict.fromkeys((*self.starts, self.closed.strip()))),
            padded=self.key_tags[1].endswith("\n"),
        )

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Calls up to what closes them; the last end may be missing at the end of the answer."""
        begun = start.strip() == self.name_tags[0].strip()
        n_before = sink.n_calls
        while True:
            yield from source.skip()
            if begun or (yield from self._begins(source)):
                yield from self._call(source, sink, bare=start != self.starts[0])
                begun = False
            elif sink.n_calls > n_before and (yield from self._ends(source, start)):
                sink.done_to = source.place
                return
            else:
                raise ToolCallError("a call was expected")
            if not self.tail:
                return

    def _begins(self, source: StreamReader) -> Reading[bool]:
        if not self.name_tags[0]:
            return True
        return (yield from source.match(self.name_tags[0]))

    def _ends(self, source: StreamReader, start: str) -> Reading[bool]:
        if (yield from source.match(self.closed.strip())):
            return True
        # A call that was begun without the outer tag need not have its end.
        return start != self.starts[0] or not (yield from source.peek())

    def _call(self, source: StreamReader, sink: CallEmitter, *, bare: bool) -> Reading[None]:
        tool = sink.tool((yield from self._name(source)))
        sink.begin(tool)
        yield from source.skip()
        if (yield from source.peek()) == "{":
            # As in Llama 3.1's documentation and others: the arguments are one JSON object.
            yield from read_arguments(source, sink, tool)
            if not (yield from self._closed(source)) and not (yield from self._over(source)):
                raise ToolCallError("the call is not closed")
            sink.end()
            return
        call = _Open(Schema.of(tool.input_schema), bare)
        while not (yield from self._closed(source)):
            if not (yield from source.match(self.key_tags[0])):
                if call.seen and (yield from self._over(source)):
                    sink.repair("a call that was not closed")
                    break
                yield from source.has(1)
                raise ToolCallError("a parameter was expected")
            yield from self._parameter(source, sink, call)
        sink.add("}" if call.seen else "{}")
        sink.end()

    def _parameter(self, source: StreamReader, sink: CallEmitter, call: _Open) -> Reading[None]:
        key, _ = yield from source.until(self.key_tags[1].strip(), at_most=MAX_NAME)
        key = bare(key)
        if key in call.seen and not sink.held:
            raise ToolCallError(f"parameter {key[:64]!r} comes twice")
        sink.add(("{" if not call.seen else ", ") + to_json(key) + ": ")
        call.seen.add(key)
        if self.value_tags[0]:
            yield from source.skip()
            if not (yield from source.match(self.value_tags[0])):
                raise ToolCallError("a value was expected")
        yield from self._value(source, sink, call, key)

    def _name(self, source: StreamReader) -> Reading[str]:
        name, _ = yield from source.until(self.name_tags[1].strip(), at_most=MAX_NAME)
        return bare(name)

    def _closed(self, source: StreamReader) -> Reading[bool]:
        yield from source.skip()
        return (yield from source.match(self.tail or self.closed.strip()))

    def _over(self, source: StreamReader) -> Reading[bool]:
        """Whether the call is over although what closes it is missing."""
        yield from source.skip()
        begin = source.place
        next_ = yield from source.any_of(self.closed.strip(), self.name_tags[0], *self.starts)
        source.back(begin)
        return bool(next_) or (not (yield from source.peek()) and not source.cut)

    def _value(
        self, source: StreamReader, sink: CallEmitter, call: _Open, key: str
    ) -> Reading[None]:
        tags, schema = self.tags, call.schema.member(key)
        if tags.padded:
            yield from source.match("\n")
        if not sink.held:
            payload = Payload(source, tags, call.expects, bare=call.bare)
            text, whole = yield from payload.read(json_first=not schema.text_only)
            trimmed = tags.trimmed(text, key, whole=whole)
            value, mended = from_text(trimmed, schema, tags.markup)
            sink.repair(OTHER_TYPE, when=mended)
            sink.repair("a value that was not closed as it should be", when=not whole)
            sink.repair("blanks around a value", when=trimmed != text)
            sink.add(to_json(value))
            return
        # The grammar has ended the value at the first end that is exactly as it is written.
        end, parts = self.value_tags[1], ['"']
        plain = schema.text_only and not schema.choices and (yield from source.peek()) != '"'
        while True:
            text, mark = source.certain(end)
            if plain:
                sink.add("".join(parts) + to_json(text)[1:-1])
                parts = []
            else:
                parts.append(text)
            if mark:
                break
            yield from source.more()
        if plain:
            sink.add('"')
            return
        value, mended = from_text("".join(parts[1:]), schema, tags.markup)
        sink.repair(OTHER_TYPE, when=mended)
        sink.add(to_json(value))

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """Texts literally where that is safe, any other value as JSON."""
        parts = [self.name_tags[0], name, self.name_tags[1]]
        schema, markup = Schema.of(tool.input_schema) if tool else None, self.tags.markup
        if schema and not self._ways(schema, Rules()):
            return "".join([*parts, to_json(arguments), "\n", self.tail])
        for key, value in arguments.items():
            text = to_text(value, schema.member(key) if schema else None, markup)
            parts += [self.key_tags[0], key, self.key_tags[1]]
            parts += [self.value_tags[0], text, self.value_tags[1]]
        return "".join([*parts, self.tail])

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """Parameters in the order of the schema, or the required ones first.

        If separate parameters can't express the schema, the constraint is one JSON object.
        """
        schema = Schema.of(tool.input_schema)
        head, tail = quoted(self.name_tags[0] + tool.name + self.name_tags[1]), literal(self.tail)
        ways = self._ways(schema, rules)
        body = f"({' | '.join(ways)})" if ways else f'{rules.json(tool.input_schema)} "\\n"'
        return f"{head} {body} {tail}"

    def _ways(self, schema: Schema, rules: Rules) -> list[str]:
        ways = []
        if not all(map(self._plain_name, schema.names)):
            return []
        for signature in schema.signatures:
            if (way := self._way(signature, rules)) is None:
                return []
            ways.append(rules.add(way))
        return ways

    def _plain_name(self, name: str) -> bool:
        """Whether the name of a parameter comes back from between its tags."""
        mark = self.key_tags[1].strip()
        return name == bare(name) != "" and mark not in name and "\n" not in name

    def _way(self, signature: Signature, rules: Rules) -> str | None:
        named = {**signature.required, **signature.optional}
        found = {name: self._parameter_rule(quoted(name), named[name], rules) for name in named}
        if None in found.values():
            return None
        ways = []
        for order in signature.orders:
            parts = [f"{found[name]}{'' if needed else '?'}" for name, _, needed in order]
            ways.append(" ".join(parts) or '""')
        if signature.other is None:
            return " | ".join(ways)
        other = self._parameter_rule(_OTHER_NAME, signature.other, rules)
        return other and f"{other}*"

    def _parameter_rule(self, name: str, schema: Schema, rules: Rules) -> str | None:
        value = value_rule(schema, self.value_tags[1], self.tags.markup, rules)
        if value is None:
            return None
        key_end = quoted(self.key_tags[1] + self.value_tags[0])
        return rules.add(f"{quoted(self.key_tags[0])} {name} {key_end} {value}")
