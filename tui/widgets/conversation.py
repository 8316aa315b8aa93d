"""A conversation as roles with blocks that fold, tool calls next to their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from textual.containers import Vertical
from textual.markup import escape
from textual.widgets import Collapsible, Static

from mlxdeck.telemetry.analyze.raw_lines import content
from mlxdeck.telemetry.analyze.request_diff import readable
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.text import format as fmt

MAX_CHARS = 20_000
"""More of one block is not drawn."""
OPEN_LAST = 2
"""So many blocks at the end are open from the start."""
MAX_BLOCKS = 400
NOT_CAPTURED = (
    "The text was not captured. To keep it from now on, start the server with\n"
    "  mlxdeck serve --capture full"
)


class Block(NamedTuple):
    """A part of the conversation."""

    title: str
    text: str


class ConversationView(Vertical):
    """System prompt, tools, messages and the answer."""

    DEFAULT_CSS = """
    ConversationView { height: auto; }
    ConversationView Collapsible { border: none; padding: 0; background: $background; }
    ConversationView Collapsible Contents { padding: 0 0 1 3; }
    ConversationView Static { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[list[Block], str] | None = None

    def show(
        self, lines: Sequence[t.Attrs | None], paths: Sequence[Path], missing: str = NOT_CAPTURED
    ) -> None:
        """Show the captured conversation, or why it is `missing`."""
        blocks = list(_blocks(lines, paths))
        if (blocks, missing) == self._shown:
            return
        self._shown = (blocks, missing)
        self.remove_children()
        if not blocks:
            self.mount(Static(missing, markup=False))
            return
        shown = blocks[-MAX_BLOCKS:]
        if len(shown) < len(blocks):
            self.mount(Static(f"{len(blocks) - len(shown):,} blocks before these", markup=False))
        self.mount_all(
            Collapsible(
                Static(block.text, markup=False),
                title=escape(block.title),
                collapsed=n < len(shown) - OPEN_LAST,
            )
            for n, block in enumerate(shown)
        )

    def fold(self) -> None:
        """Open all blocks, or close them if all are open."""
        blocks = list(self.query(Collapsible))
        closed = any(block.collapsed for block in blocks)
        for block in blocks:
            block.collapsed = not closed


def _blocks(lines: Sequence[t.Attrs | None], paths: Sequence[Path]) -> Iterator[Block]:
    start = next((line for line in lines if isinstance(line, t.RequestStart)), None)
    if start is None:
        return
    hashes = [start.system_hash, start.tools_hash, *start.message_hashes]
    found = content(paths, hashes)
    if not found:
        return
    for place, digest in enumerate(hashes):
        if not digest:
            continue
        part = found.get(digest)
        name = "system" if place == 0 else "tools" if place == 1 else f"{place - 1}"
        if part is None:
            yield Block(f"{name}  (not in these files)", f"told under {digest} elsewhere")
        else:
            text = _tools(part) if part.kind == "tools" else readable(part)
            yield _block(f"{name} {part.role if place > 1 else ''}".rstrip(), text)
    for line in lines:
        if isinstance(line, t.Content) and line.kind == "answer":
            yield _block("answer", readable(line))


def _block(name: str, text: str) -> Block:
    first = fmt.one_line(text.strip().split("\n")[0], 60)
    cut = f"\n… {len(text) - MAX_CHARS:,} more characters" if len(text) > MAX_CHARS else ""
    return Block(f"{name}  ·  {len(text):,} characters  ·  {first}", text[:MAX_CHARS] + cut)


def _tools(part: t.Content) -> str:
    try:
        tools = json.loads(part.content)
    except ValueError:
        return part.content
    return "\n".join(
        f"{tool.get('name', '?')}: {fmt.one_line(str(tool.get('description', '')), 200)}"
        for tool in tools
        if isinstance(tool, dict)
    )
