"""Lines of a recording without what names this machine and what the client's makers wrote.

Their system prompt, the descriptions of their tools and their reminders are no words of ours. What
stands in their place says how long they are. Of a request's progress one line a second is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.schema.events import Content, RequestProgress, RequestStart, StreamStart

HOME = "/home/me"
"""What the temporary folder of a recording is called in it."""
PROGRESS_S = 1.0
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_STARTED = re.compile(r"Async agent launched successfully\..*", re.DOTALL)
_CLIENTS_FOLDER = re.compile(r"/tmp/claude-\d+/[^\s\"'<>\\]*")
Block = dict[str, Any]


def cleaned(lines: Iterable[str], folder: Path, *, theirs: bool = False) -> Iterator[str]:
    """The lines of a recording that was made in a folder; `theirs` if a client wrote into them."""
    dashed = str(folder).replace("/", "-")
    told: dict[tuple[str, str], float] = {}
    for raw in lines:
        line = json.loads(raw.replace(str(folder), HOME).replace(dashed, HOME.replace("/", "-")))
        attrs = line["attrs"]
        if line["event"] == RequestProgress.NAME:
            state = (line["request_id"], attrs["mlx.progress.state"])
            if line["ts"] < told.get(state, 0.0) + PROGRESS_S:
                continue
            told[state] = line["ts"]
        if line["event"] == StreamStart.NAME:
            attrs |= {"host.name": "host", "host.cpu.model.name": "x86_64", "server.port": 8081}
        if theirs:
            if line["event"] == Content.NAME:
                attrs["mlx.content.text"] = _content(attrs)
            elif line["event"] == RequestStart.NAME and "mlx.last_user_text" in attrs:
                attrs["mlx.last_user_text"] = _text(attrs["mlx.last_user_text"])
        yield json.dumps(line, separators=(",", ":"), ensure_ascii=False)


def _content(attrs: dict[str, Any]) -> str:
    kind, text = attrs["mlx.content.kind"], str(attrs["mlx.content.text"])
    try:
        parts = json.loads(text)
    except json.JSONDecodeError:
        # It was longer than what is written of it.
        return f"[{json.dumps(_left_out(text))}]"
    if kind == "tools":
        short = ({"name": each["name"], "description": _left_out(str(each))} for each in parts)
        found: list[Any] = [each | {"input_schema": {"type": "object"}} for each in short]
    elif kind == "system":
        found = [_left_out(each) if "Claude" in each else each for each in map(str, parts)]
    elif attrs.get("mlx.content.role") == "system":
        found = [{"type": "text", "text": _left_out(text)}]
    else:
        found = [_block(each, _text) for each in parts]
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def _block(block: Block, change: Callable[[str], str]) -> Block:
    """A block of a message, also of blocks inside a tool's result."""
    changed = dict(block)
    for key in ("text", "content"):
        value = changed.get(key)
        if isinstance(value, str):
            changed[key] = change(value)
        elif isinstance(value, list):
            changed[key] = [_block(each, change) for each in value]
    return changed


def _text(text: str) -> str:
    """A text without reminders, and of what a client says of agents no more than the beginning."""
    text = _REMINDER.sub(lambda found: _left_out(found[0]), text)
    return _CLIENTS_FOLDER.sub(f"{HOME}/.claude", _STARTED.sub("Async agent launched.", text))


def _left_out(text: str) -> str:
    return f"({len(text):,} characters by the makers of the client)"
