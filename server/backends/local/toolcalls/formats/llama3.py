"""`<|python_tag|>{"name": ..., "parameters": {...}}`, as Llama 3.1 to 3.3 write it.

They often leave the tag out: the object without it is one of the bare forms.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.formats.objects import Listed
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import json_call
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.json_arguments import MAX_NAME
from mlxdeck.server.backends.local.toolcalls.reading.python_calls import read_keywords
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json


class Llama3(Listed):
    """Objects behind a tag, with semicolons between them."""

    name = "llama3"
    signs = ("<|start_header_id|>", "ipython")
    starts = ("<|python_tag|>",)
    opened = ""
    between = "; "
    closed = ""
    ends = ("<|eom_id|>", "<|eot_id|>")

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Objects; or one call as Python writes it, which the tag was made for."""
        yield from source.skip()
        if (yield from source.peek()) in ("{", "["):
            yield from super().read(source, sink, start)
            return
        name, _ = yield from source.until("(", at_most=MAX_NAME)
        source.back(source.place - 1)
        tool = sink.tool(name.strip().removesuffix(".call"))
        yield from read_keywords(source, sink, tool)
        yield from source.any_of(*self.ends)
        sink.done_to = source.place

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """One object."""
        return to_json({"name": name, "parameters": arguments})

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The object as `write` writes it."""
        return json_call(rules, tool, arguments="parameters")
