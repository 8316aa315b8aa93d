"""`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

Also the form that models are shown whose template knows no tools. The tags are those of Qwen's and
NousResearch's published chat templates.
"""

from __future__ import annotations

from mlxdeck.server.backends.local.toolcalls.constraints.grammar import Rules
from mlxdeck.server.backends.local.toolcalls.formats.glm import Glm
from mlxdeck.server.backends.local.toolcalls.formats.minimax import MiniMax
from mlxdeck.server.backends.local.toolcalls.formats.objects import read_objects
from mlxdeck.server.backends.local.toolcalls.formats.qwen3_coder import Qwen3Coder
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat, json_call
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import CallEmitter
from mlxdeck.server.backends.local.toolcalls.reading.python_calls import read_named
from mlxdeck.server.backends.local.toolcalls.reading.stream_reader import Reading, StreamReader
from mlxdeck.server.chat import ToolSpec
from mlxdeck.server.schemas.values import to_json

# What models take for the same tag's.
_OTHER_ENDS = ("</tool_call>", "</tools>", "</function_call>")
_QWEN, _MINIMAX, _GLM = Qwen3Coder(), MiniMax(), Glm()


class JsonTags(ToolFormat):
    """A JSON object between tags."""

    name = "json_tags"
    signs = ("<tool_call>",)
    starts = ("<tool_call>",)
    opened = "\n"
    closed = "\n</tool_call>"

    def read(self, source: StreamReader, sink: CallEmitter, start: str) -> Reading[None]:
        """Objects up to the closing tag, which a model may forget at the end of its answer.

        Finetunes write the forms of other families between the same tags.
        """
        end = self.closed.strip()
        yield from source.skip()
        if (yield from self._other(source, sink, start, end)):
            yield from source.skip()
            yield from source.match(end)
            sink.done_to = source.place
            return
        yield from read_objects(source, sink, end, *_OTHER_ENDS)

    @staticmethod
    def _other(source: StreamReader, sink: CallEmitter, start: str, end: str) -> Reading[bool]:
        """Read calls in another family's form, if there are."""
        begin = source.place
        if (yield from read_named(source, sink)):
            return True
        for form in (_QWEN, _MINIMAX):
            opens = form.name_tags[0]
            if (yield from source.match(opens)):
                if start == form.starts[0]:
                    source.back(begin)
                    opens = start
                yield from form.read(source, sink, opens)
                return True
        if end != _GLM.closed:
            return False
        for tool in sorted(sink.offered, key=lambda tool: len(tool.name), reverse=True):
            named = yield from source.match(tool.name)
            named = named and (yield from source.peek()) in ("\n", "<", "{")
            source.back(begin)
            if named:
                yield from _GLM.read(source, sink, start)
                return True
        return False

    def write(self, name: str, arguments: dict[str, object], tool: ToolSpec | None = None) -> str:
        """The object."""
        return to_json({"name": name, "arguments": arguments})

    def rule(self, tool: ToolSpec, rules: Rules) -> str | None:
        """The object as `write` writes it."""
        return json_call(rules, tool)
