"""What a recording tells of prompts for a replay of its caches: which begin alike, and when.

A prompt is a path of blocks of 32 tokens. Each block has a number that stands for all tokens up to
its end. Recordings hold digests of them; older ones only those of whole messages.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t

SUB_TOKENS = 32
"""Of a block here; as `prompt_digests` of the server has it."""
DIGEST_BYTES = 4
_WANTED = tuple(
    f'"event":"{kind.NAME}"'.encode()
    for kind in (t.StreamStart, t.RequestStart, t.CacheLookup, t.RequestEnd, t.Tick)
)
_HEAD_BYTES = 200


@dataclass(slots=True)
class RecordedPrompt:
    """A request as caches see it."""

    at_ts: float
    """When the caches were asked."""
    pid: int
    conversation: tuple[str, str, bool] = ("", "", False)
    """Session, agent, and whether there are tools."""
    model: str = ""
    key: str = ""
    """Of the whole answer; empty if none was looked for."""
    exact_tier: str = ""
    exact_reason: str = ""
    path: list[int] = field(default_factory=list)
    has_prompt: bool = False
    """Whether states were asked; not if a whole answer was found."""
    n_tokens: int = 0
    matched: int = 0
    tier: str = ""
    miss_reason: str = ""
    boundaries: tuple[int, ...] = ()
    """Tokens in front of each part, ascending."""
    shared_tokens: int = 0
    message_starts: tuple[int, ...] = ()
    removed_parts: tuple[str, ...] = ()
    """What canonical rules took out: rule, place and digest."""
    end_ts: float = 0.0
    outcome: str = ""
    finish: str = ""
    output_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    duration_s: float = 0.0
    has_token: bool = False


@dataclass(slots=True)
class RecordedTraffic:
    """A recording, in the order of time."""

    prompts: list[RecordedPrompt] = field(default_factory=list)
    headers: list[tuple[float, int, t.StreamStart]] = field(default_factory=list)
    """Time, process, header."""
    held: list[tuple[float, int, int, int | None]] = field(default_factory=list)
    """Time, process, bytes of states in RAM, and their limit."""


def traffic_of(files: Sequence[Path]) -> RecordedTraffic:
    """Read recordings. Lines that can't be read are skipped: other commands count them."""
    paths, found, open_ = _Paths(), RecordedTraffic(), dict[str, RecordedPrompt]()
    starts: dict[str, t.RequestStart] = {}
    for line in sorted(_lines(files), key=lambda each: each.ts):
        attrs, name = line.attrs, line.request_id
        if isinstance(attrs, t.StreamStart):
            found.headers.append((line.ts, line.pid, attrs))
        elif isinstance(attrs, t.Tick):
            limit = attrs.prefix_limit_bytes
            found.held.append((line.ts, line.pid, attrs.prefix_bytes, limit))
        elif isinstance(attrs, t.RequestStart):
            starts[name] = attrs
            open_[name] = _begun(line, attrs)
        elif isinstance(attrs, t.CacheLookup) and name in open_:
            _look(open_[name], attrs, starts[name], line.ts, paths)
        elif isinstance(attrs, t.RequestEnd) and name in open_:
            starts.pop(name)
            found.prompts.append(_ended(open_.pop(name), attrs, line.ts))
    found.prompts.sort(key=lambda each: each.at_ts)
    return found


def _lines(files: Iterable[Path]) -> Iterator[codec.Line]:
    for path in files:
        with path.open("rb") as file:
            for raw in file:
                if any(mark in raw[:_HEAD_BYTES] for mark in _WANTED):
                    try:
                        yield codec.decode(raw)
                    except codec.Unreadable:
                        continue


def _begun(line: codec.Line, start: t.RequestStart) -> RecordedPrompt:
    return RecordedPrompt(
        line.ts,
        line.pid,
        (line.session_id, start.agent_id, bool(start.n_tools)),
        removed_parts=start.removed_parts,
    )


def _look(
    prompt: RecordedPrompt, found: t.CacheLookup, start: t.RequestStart, ts: float, paths: _Paths
) -> None:
    prompt.at_ts = ts
    if found.cache == "exact":
        prompt.key, prompt.exact_tier = found.key, found.tier
        prompt.exact_reason = found.miss_reason
        return
    prompt.has_prompt = True
    prompt.n_tokens = found.prompt_tokens or 0
    prompt.matched = found.matched_tokens or 0
    prompt.tier, prompt.miss_reason = found.tier, found.miss_reason
    prompt.shared_tokens = found.shared_tokens
    prompt.message_starts = found.message_starts
    prompt.boundaries = tuple(sorted({found.shared_tokens, *found.message_starts} - {0}))
    if found.blocks or found.block_before:
        prompt.path = paths.told(found)
    else:
        prompt.path = paths.by_parts(found, start)


def _ended(prompt: RecordedPrompt, end: t.RequestEnd, ts: float) -> RecordedPrompt:
    prompt.end_ts, prompt.outcome, prompt.model = ts, end.outcome, f"{end.backend} {end.model}"
    prompt.finish = end.ended_by or (end.finish_reasons[0] if end.finish_reasons else "")
    prompt.n_tokens = prompt.n_tokens or end.input_tokens or 0
    prompt.output_tokens = end.output_tokens or 0
    prompt.prefill_s, prompt.decode_s = end.prefill_s or 0.0, end.decode_s or 0.0
    prompt.duration_s, prompt.has_token = end.duration_s, end.ttft_s is not None
    return prompt


class _Paths:
    """Gives each block its number: equal for equal tokens up to its end."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._holders: dict[int, list[int]] = {}
        """A path that holds a block, by the block's number."""

    def _number(self, name: Any) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def told(self, found: t.CacheLookup) -> list[int]:
        """The path of a prompt by the digests of its new blocks."""
        n = found.n_blocks_before
        path: list[int] = []
        if n:
            last = self._number((n, _digests(found.block_before)[-1:]))
            # What came before was perhaps told in a file that is not here.
            path = self._holders.get(last) or [
                *(self._number((last, place)) for place in range(n - 1)),
                last,
            ]
            path = path[:n]
        new = [
            self._number((n + place + 1, (digest,)))
            for place, digest in enumerate(_digests(found.blocks))
        ]
        path = [*path, *new]
        for number in new or path[-1:]:
            self._holders.setdefault(number, path)
        return path

    def by_parts(self, found: t.CacheLookup, start: t.RequestStart) -> list[int]:
        """The path by the digests of whole parts: prompts differ from a part's beginning on."""
        parts: list[tuple[str, int]] = []
        if found.shared_tokens:
            parts.append((f"{start.system_hash} {start.tools_hash}", found.shared_tokens))
        ends = [*found.message_starts[1:], found.prompt_tokens or 0]
        hashes = start.message_hashes[-len(found.message_starts) or len(start.message_hashes) :]
        parts += zip(hashes, ends, strict=False)
        path: list[int] = []
        chain = 0
        for (name, end), (_, begin) in zip(parts, [("", 0), *parts], strict=False):
            chain = self._number((chain, name))
            first, last = -(-begin // SUB_TOKENS), end // SUB_TOKENS
            path += [self._number((chain, place)) for place in range(len(path), max(first, last))]
        return path


def _digests(text: str) -> tuple[bytes, ...]:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ()
    cuts = range(0, len(raw) + 1, DIGEST_BYTES)
    return tuple(raw[a:b] for a, b in pairwise(cuts))
