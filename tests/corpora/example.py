"""What a corpus is made of: a request to Anthropic's API, and the answer to be expected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MODEL = "local"


@dataclass(frozen=True, slots=True)
class Example:
    """A request of a corpus."""

    name: str
    request: dict[str, Any]
    """The body of a request to /v1/messages."""
    expected: list[dict[str, Any]]
    """The blocks of a right answer."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a bench may group by, as the language of a file."""

    def to_json(self) -> str:
        """One line, without its newline."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def text(content: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": content}


def tool_use(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def tool_result(call_id: str, content: str, *, is_error: bool = False) -> dict[str, Any]:
    """A block with what a tool returned."""
    block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    return {**block, "is_error": True} if is_error else block


def request(
    messages: list[dict[str, Any]],
    system: str,
    tools: list[dict[str, Any]] | None = None,
    max_tokens: int = 4096,
) -> dict[str, Any]:
    """A body, in the order of keys that clients use; greedy, so that answers can be compared."""
    body: dict[str, Any] = {"model": MODEL, "max_tokens": max_tokens, "temperature": 0}
    body |= {"system": system, "messages": messages}
    return {**body, "tools": tools} if tools else body


def user(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    """A turn of the user."""
    return {"role": "user", "content": _content(blocks)}


def assistant(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    """A turn of the model."""
    return {"role": "assistant", "content": _content(blocks)}


def _content(blocks: tuple[dict[str, Any] | str, ...]) -> Any:
    if len(blocks) == 1 and isinstance(blocks[0], str):
        return blocks[0]
    return [text(block) if isinstance(block, str) else block for block in blocks]


def fingerprint(examples: Iterable[Example]) -> str:
    """A hash of a whole corpus: the same for the same seed, on any machine."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.to_json().encode() + b"\n")
    return digest.hexdigest()[:16]
