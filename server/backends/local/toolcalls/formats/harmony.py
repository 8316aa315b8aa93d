"""Harmony, as gpt-oss writes it: every message of an answer says which channel it is on.

`<|channel|>analysis<|message|>` is thinking, `commentary to=functions.NAME` a call, the rest text.
https://developers.openai.com/cookbook/articles/openai-harmony
"""

from __future__ import annotations

import re

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules, literal
from mlxdeck.server.backends.local.toolcalls.constraints.grammar_lines import quoted
from mlxdeck.server.backends.local.toolcalls.formats.sections import read_none
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME, read_arguments
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json

_CHANNEL, _MESSAGE, _CONSTRAIN = "<|channel|>", "<|message|>", "<|constrain|>"
_START = "<|start|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>", _START, _CHANNEL)
_TO = "to=functions."
_RECIPIENT = re.compile(r"to=\s*(functions\.)?([^\s<]*)")


class Harmony(ToolFormat):
    """Messages on channels."""

    name = "harmony"
    signs = (_CHANNEL, _MESSAGE)
    starts = (_CHANNEL, _START)
    always = True
    trigger = _TO
    opened = f"commentary {_TO}"
    closed = "<|call|>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """One message of any kind."""
        head, _ = yield from source.until(_MESSAGE, at_most=2 * MAX_NAME)
        # <|start|>assistant<|channel|>..., or the recipient before the channel.
        told = _RECIPIENT.search(head)
        if told and (told[1] or any(told[2] == tool.name for tool in sink.offered)):
            tool = sink.tool(told[2])
            sink.held = sink.held and _TO in head
            if not (yield from read_none(source, sink, tool, *_ENDS)):
                sink.begin(tool)
                yield from read_arguments(source, sink, tool)
                sink.end()
            yield from source.skip()
            yield from source.any_of("<|call|>", "<|end|>")
            sink.done_to = source.place
            return
        channel = head.rpartition(_CHANNEL)[2] if start == _START else head
        put = sink.think if channel.strip().startswith("analysis") else sink.text
        while True:
            text, end = source.certain(*_ENDS)
            put(text)
            if end in (_START, _CHANNEL):
                source.back(source.place - len(end))
            sink.done_to = source.place
            if end or source.ended:
                return
            yield

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """One message."""
        return f"{name} {_CONSTRAIN}json{_MESSAGE}{to_json(arguments)}"

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The same."""
        head = f"{quoted(f'{tool.name} ')} {literal(_CONSTRAIN)}"
        return f'{head} "json" {literal(_MESSAGE)} {rules.json(tool.input_schema)}'
