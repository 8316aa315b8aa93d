"""How two requests differ: settings, times, tokens, and where their prompts part. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlxdeck.telemetry.schema import events as t

CONTEXT_LINES = 3
MAX_DIFF_LINES = 200
SAMPLING = ("min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Of a request's parameters, those that few clients send."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first part in which two prompts differ."""

    place: str
    """`system`, `tools` or `message 3`; empty if they are the same."""
    hashes: tuple[str, str]
    n_equal: int
    """Messages that are the same before it."""
    note: str = ""


def parting(one: t.RequestStart, other: t.RequestStart) -> Divergence:
    """Compare by the hashes of the parts, in the order in which a model reads them."""
    if one.system_hash != other.system_hash:
        return Divergence("system", (one.system_hash, other.system_hash), 0)
    if one.tools_hash != other.tools_hash:
        gone = sorted(set(one.tool_names) - set(other.tool_names))
        new = sorted(set(other.tool_names) - set(one.tool_names))
        note = ", ".join(
            [*(f"only in A: {name}" for name in gone), *(f"only in B: {n}" for n in new)]
        )
        return Divergence("tools", (one.tools_hash, other.tools_hash), 0, note)
    ours, theirs = one.message_hashes, other.message_hashes
    n_equal = 0
    for mine, yours in zip(ours, theirs, strict=False):
        if mine != yours:
            return Divergence(f"message {n_equal + 1}", (mine, yours), n_equal)
        n_equal += 1
    if len(ours) == len(theirs):
        return Divergence("", ("", ""), n_equal, "the prompts are the same")
    longer = "A" if len(ours) > len(theirs) else "B"
    rest = ours[n_equal:] or theirs[n_equal:]
    hashes = (rest[0], "") if longer == "A" else ("", rest[0])
    note = f"{longer} goes on for {len(rest)} more messages"
    return Divergence(f"message {n_equal + 1}", hashes, n_equal, note)


def diff(found: Mapping[str, t.Content], hashes: tuple[str, str]) -> list[str]:
    """A unified diff of two captured parts, around where they differ; empty if not captured."""
    texts = [readable(found[each]) if each in found else "" for each in hashes]
    if not all(each in found for each in hashes if each):
        return []
    lines = difflib.unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), "A", "B", n=CONTEXT_LINES, lineterm=""
    )
    return [line for _, line in zip(range(MAX_DIFF_LINES), lines, strict=False)]


def readable(part: t.Content) -> str:
    """A captured part as text for a person."""
    try:
        value = json.loads(part.content)
    except ValueError:
        return part.content
    if not isinstance(value, list):
        return part.content
    return "\n".join(map(piece, value))


def piece(value: object) -> str:
    """A block of a message as text for a person."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return json.dumps(value)
    match value.get("type"):
        case "text":
            return str(value.get("text", ""))
        case "thinking":
            return f"(thinking) {value.get('thinking', '')}"
        case "tool_use":
            given = value.get("input")
            shown = (
                given if isinstance(given, str) else json.dumps(given, indent=2, ensure_ascii=False)
            )
            return f"→ {value.get('name', '?')} {shown}"
        case "tool_result":
            failed = " (failed)" if value.get("is_error") else ""
            return f"←{failed} {value.get('content', '')}"
    return json.dumps(value, indent=2, ensure_ascii=False)


def settings(start: t.RequestStart) -> Iterator[tuple[str, str]]:
    """The parameters of a request by name."""
    yield "model", start.model
    yield "dialect", start.dialect
    yield "streamed", "yes" if start.stream else "no"
    yield "max_tokens", f"{start.max_tokens:,}" if start.max_tokens else "?"
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(start, name)
        yield name, "model's own" if value is None else f"{value:g}"
    yield "sampling", ", ".join(_sampling(start)) or "as usual"
    yield "stops at", ", ".join(map(repr, start.stop_sequences)) or "nothing else"
    yield "tool_choice", " ".join(filter(None, (start.tool_choice, start.forced_tool)))
    yield "thinking", _thinking(start)
    yield "answer", start.answer_format
    yield "tools", "?" if start.n_tools is None else f"{start.n_tools}"
    yield "messages", "?" if start.n_messages is None else f"{start.n_messages}"
    yield "body", "?" if start.body_bytes is None else f"{start.body_bytes:,} bytes"
    yield "left out", ", ".join(start.removed) or "nothing"


def _sampling(start: t.RequestStart) -> Iterator[str]:
    """Sampling parameters that differ from their defaults."""
    usual = t.RequestStart()
    for name in SAMPLING:
        value = getattr(start, name)
        if value != getattr(usual, name):
            yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
    if start.n_biased_tokens:
        yield f"logit_bias of {start.n_biased_tokens:,}"


def _thinking(start: t.RequestStart) -> str:
    if start.thinking is None:
        return "model's own"
    limit = f", at most {start.thinking_tokens:,} tokens" if start.thinking_tokens else ""
    return f"{'on' if start.thinking else 'off'}{limit}"
