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

from mlxdeck.telemetry.read.event_marks import EventMarks
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t

SUB_TOKENS = 32
"""Of a block here; as `prompt_digests` of the server has it."""
DIGEST_BYTES = 4
MAX_TOKENS = 1 << 24
"""Of a prompt with its answer: no model has such a window, and one alone takes seconds to play."""
_WANTED = EventMarks(
    t.StreamStart, t.RequestStart, t.CacheLookup, t.RequestEnd, t.Tick, t.ServerStop
)


@dataclass(slots=True)
class RecordedPrompt:
    """A request as caches see it."""

    at_ts: float
    """When the caches were asked."""
    server: int
    """Its process, by the place among those of the recording."""
    conversation: tuple[str, str, bool] = ("", "", False)
    """Session, agent, and whether there are tools."""
    model: str = ""
    key: str = ""
    """Of the whole answer of that model; empty if none was looked for."""
    exact_tier: str = ""
    exact_reason: str = ""
    path: list[int] = field(default_factory=list)
    has_prompt: bool = False
    """Whether states were asked; not if a whole answer was found."""
    n_tokens: int = 0
    matched: int = 0
    parted: tuple[int, ...] = ()
    """Where it is known to part from others: as much was matched, or is alike in the nearest."""
    tier: str = ""
    miss_reason: str = ""
    boundaries: tuple[int, ...] = ()
    """Tokens in front of each part, ascending."""
    shared_tokens: int = 0
    message_starts: tuple[int, ...] = ()
    tail_start: int = 0
    """End of the last message; 0 if it was not told."""
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
    is_possible: bool = True
    """Whether a server can have counted its tokens so: what is beyond its end can't be played."""


@dataclass(slots=True)
class RecordedServer:
    """A process, from its first line to its last one."""

    header: t.StreamStart | None = None
    end_ts: float = 0.0
    has_stopped: bool = False
    """Whether it has ended in good order."""
    held: list[tuple[float, int]] = field(default_factory=list)
    """Time, and bytes of states in RAM."""
    limits: list[int] = field(default_factory=list)
    """Of these bytes."""
    has_8bit: bool = False
    """Whether some of them lay in 8 bits."""


@dataclass(slots=True)
class RecordedTraffic:
    """A recording, in the order of time."""

    prompts: list[RecordedPrompt] = field(default_factory=list)
    n_impossible: int = 0
    """Requests that are left out, as no server can have counted their tokens so."""
    servers: list[RecordedServer] = field(default_factory=list)


def traffic_of(files: Sequence[Path]) -> RecordedTraffic:
    """Read recordings. Lines that can't be read are skipped: other commands count them."""
    paths, found, open_ = _Paths(), RecordedTraffic(), dict[str, RecordedPrompt]()
    starts: dict[str, t.RequestStart] = {}
    servers = _Servers(found.servers)
    for file, line in sorted(_lines(files), key=lambda each: each[1].ts):
        attrs, name = line.attrs, line.request_id
        place = servers.heard(file, line)
        if isinstance(attrs, t.RequestStart):
            starts[name] = attrs
            open_[name] = _begun(line, attrs, place)
        elif isinstance(attrs, t.CacheLookup) and name in open_:
            _look(open_[name], attrs, starts[name], line.ts, paths)
        elif isinstance(attrs, t.RequestEnd) and name in open_:
            starts.pop(name)
            ended = _ended(open_.pop(name), attrs, line.ts)
            if ended.is_possible:
                found.prompts.append(ended)
            else:
                found.n_impossible += 1
    found.prompts.sort(key=lambda each: each.at_ts)
    return found


_Key = tuple[str, int]
"""A file, and the number of a process."""


class _Servers:
    """Tells processes apart: by their files and numbers, as a number may be given again."""

    def __init__(self, found: list[RecordedServer]) -> None:
        self._found = found
        self._places: dict[_Key, int] = {}

    def heard(self, file: Path, line: codec.Line) -> int:
        """The place of the process that wrote a line."""
        attrs, key = line.attrs, (str(file), line.pid)
        if isinstance(attrs, t.StreamStart):
            self._begun(key, attrs, (str(file.with_name(attrs.previous_file or "-")), line.pid))
        elif key not in self._places:
            self._places[key] = self._new(None)
        server = self._found[self._places[key]]
        server.end_ts = max(server.end_ts, line.ts)
        if isinstance(attrs, t.ServerStop):
            server.has_stopped = True
        elif isinstance(attrs, t.Tick):
            server.held.append((line.ts, attrs.prefix_bytes))
            server.has_8bit |= attrs.prefix_quantized_bytes > 0
            if attrs.prefix_limit_bytes is not None:
                server.limits.append(attrs.prefix_limit_bytes)
        return self._places[key]

    def _begun(self, key: _Key, header: t.StreamStart, before: _Key) -> None:
        """A file begins, of a new process or of one whose file before has reached its size."""
        known = self._places.get(key)
        if header.previous_file:
            known = self._places.get(before, known)
        elif known is not None and self._found[known].header is not None:
            # Its number was given again.
            known = None
        self._places[key] = self._new(header) if known is None else known
        server = self._found[self._places[key]]
        server.header = server.header or header

    def _new(self, header: t.StreamStart | None) -> int:
        self._found.append(RecordedServer(header))
        return len(self._found) - 1


def _lines(files: Iterable[Path]) -> Iterator[tuple[Path, codec.Line]]:
    for path in files:
        with path.open("rb") as file:
            for raw in file:
                if _WANTED.may_be(raw):
                    try:
                        yield path, codec.decode(raw)
                    except codec.Unreadable:
                        continue


def _begun(line: codec.Line, start: t.RequestStart, server: int) -> RecordedPrompt:
    return RecordedPrompt(
        line.ts,
        server,
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
    if not _is_possible(found):
        prompt.is_possible = False
        return
    prompt.has_prompt = True
    prompt.n_tokens = found.prompt_tokens or 0
    prompt.matched = found.matched_tokens or 0
    prompt.parted = (prompt.matched, max(0, found.diverged_at_token))
    prompt.tier, prompt.miss_reason = found.tier, found.miss_reason
    prompt.shared_tokens = found.shared_tokens
    prompt.message_starts = found.message_starts
    prompt.tail_start = found.tail_start
    places = {found.shared_tokens, *found.message_starts, found.tail_start}
    prompt.boundaries = tuple(sorted(places - {0}))
    if found.blocks or found.block_before:
        prompt.path = paths.told(found)
    else:
        prompt.path = paths.by_parts(found, start)


def _is_possible(found: t.CacheLookup) -> bool:
    """Whether all places lie within the prompt, and no model's window is too short for it."""
    n_tokens, matched = found.prompt_tokens or 0, found.matched_tokens or 0
    places = (matched, found.shared_tokens, found.diverged_at_token, found.tail_start)
    last = max(*places, *found.message_starts, SUB_TOKENS * found.n_blocks_before)
    return last <= n_tokens <= MAX_TOKENS


def _ended(prompt: RecordedPrompt, end: t.RequestEnd, ts: float) -> RecordedPrompt:
    prompt.end_ts, prompt.outcome, prompt.model = ts, end.outcome, f"{end.backend} {end.model}"
    # A request's hash is the same for every model, an answer is not.
    prompt.key = prompt.key and f"{prompt.key} {prompt.model}"
    prompt.finish = end.ended_by or (end.finish_reasons[0] if end.finish_reasons else "")
    prompt.n_tokens = prompt.n_tokens or end.input_tokens or 0
    prompt.output_tokens = end.output_tokens or 0
    # A clock that was set back: nothing takes less than no time.
    prompt.prefill_s, prompt.decode_s = (max(0.0, s or 0.0) for s in (end.prefill_s, end.decode_s))
    prompt.is_possible &= prompt.n_tokens + prompt.output_tokens <= MAX_TOKENS
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
