"""`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

Also the form that models are shown whose template knows no tools. The tags are those of Qwen's and
NousResearch's published chat templates.
"""

from __future__ import annotations

from mlxdeck.server.messages import ToolSpec
from mlxdeck.server.schemas.values import to_json
from mlxdeck.server.toolcalls.formats.form import Form, json_call
from mlxdeck.server.toolcalls.formats.objects import read_objects
from mlxdeck.server.toolcalls.formats.qwen3_coder import Qwen3Coder
from mlxdeck.server.toolcalls.grammar import Rules
from mlxdeck.server.toolcalls.sink import Sink
from mlxdeck.server.toolcalls.source import Reading, Source


class JsonTags(Form):
    """A JSON object between tags."""

    name = "json_tags"
    signs = ("<tool_call>",)
    starts = ("<tool_call>",)
    opened = "\n"
    closed = "\n</tool_call>"

    def read(self, source: Source, sink: Sink, start: str) -> Reading[None]:
        """Objects up to the closing tag, which a model may forget at the end of its answer."""
        yield from source.skip()
        if (yield from source.peek()) == "<":
            # Finetunes of both kinds of Qwen write the other one's form.
            yield from Qwen3Coder().read(source, sink, start)
            return
        yield from read_objects(source, sink, "</tool_call>")

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """The object."""
        return to_json({"name": name, "arguments": arguments})

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The object as `write` writes it."""
        return json_call(rules, tool)
