"""Made-up transcripts, in the forms that different versions of Claude Code write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

START_TS = 1_790_000_000.0
SESSION = "5e551071-0000-4000-8000-000000000001"


def stamp(at_s: float) -> str:
    """A time as transcripts have it."""
    text = datetime.fromtimestamp(START_TS + at_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class Transcript:
    """The lines of one file."""

    def __init__(self, session: str = SESSION, agent: str = "", **common: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self._common = {"sessionId": session, "isSidechain": bool(agent), **common}
        if agent:
            self._common["agentId"] = agent
        self._last: str | None = None

    def add(self, kind: str, at_s: float, **more: Any) -> dict[str, Any]:
        """A line behind the last one."""
        name = f"{len(self.lines):08d}-{self._common.get('agentId', 'main')}"
        line = {
            "parentUuid": self._last,
            "type": kind,
            "uuid": name,
            "timestamp": stamp(at_s),
            **self._common,
            **more,
        }
        self._last = line["uuid"]
        self.lines.append(line)
        return line

    def says(self, text: str, at_s: float, **more: Any) -> None:
        """The user says something."""
        self.add("user", at_s, message={"role": "user", "content": text}, **more)

    def result(self, call_id: str, text: Any, at_s: float, *, failed: bool = False) -> None:
        """A tool has given something back."""
        block = {"type": "tool_result", "tool_use_id": call_id, "content": text}
        if failed:
            block["is_error"] = True
        self.add("user", at_s, message={"role": "user", "content": [block]})

    def asks(self, name: str, at_s: float, **more: Any) -> None:
        """A request is announced, as later versions do."""
        line = {"type": "api-request", "id": name, "timestamp": stamp(at_s), **self._common}
        params = {"model": "claude-opus-4-5", "max_tokens": 32000, "thinking": {"type": "adaptive"}}
        self.lines.append({**line, "params": params, "tail": ["0"], **more})

    def answers(
        self,
        name: str,
        block: dict[str, Any],
        at_s: float,
        tokens: tuple[int, int, int, int] = (10, 100, 1000, 50),
        **more: Any,
    ) -> None:
        """A block of an answer; tokens that are new, written to a cache, read from it, and out."""
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        usage = dict(zip((*names, "output_tokens"), tokens, strict=True))
        message: dict[str, Any] = {"id": f"msg_{name}", "type": "message", "role": "assistant"}
        message |= {"model": "claude-opus-4-5", "content": [block], "usage": usage}
        message["stop_reason"] = more.pop("stop_reason", None)
        self.add("assistant", at_s, message=message, requestId=f"req_{name}", **more)

    def write(self, path: Path) -> Path:
        """Write it down."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.raw)
        return path

    @property
    def raw(self) -> bytes:
        """The bytes of its file."""
        return as_bytes(self.lines)


def as_bytes(lines: Iterable[dict[str, Any]]) -> bytes:
    """Lines of a file."""
    return b"".join(
        json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for line in lines
    )


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def call(call_id: str, name: str, **given: Any) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}
