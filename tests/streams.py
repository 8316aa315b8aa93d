"""Made-up telemetry for tests: few requests with known figures, written as the server writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdeck.telemetry.columns.record_batch import batch
from mlxdeck.telemetry.read.streams import GrowingStreams
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.store.store import Store

START_TS = 1_790_000_000.0
NAME = "mlxdeck-20260921-131320-7.jsonl"


@dataclass(frozen=True, slots=True)
class Made:
    """One request of a made-up stream."""

    end_s: float
    """Seconds after the stream's start."""
    duration_s: float = 1.0
    input_tokens: int = 100
    cached_tokens: int = 0
    output_tokens: int = 10
    outcome: str = "ok"
    cache: str = "miss"
    tool: str = ""
    tier: str = "ram"


class Stream:
    """Encodes events with rising sequence numbers, as one process does."""

    def __init__(self, pid: int = 7) -> None:
        self._pid = pid
        self._seq = 0

    def line(self, attrs: t.Attrs, at_s: float, request_id: str = "", session: str = "") -> bytes:
        """One event `at_s` seconds after the start."""
        self._seq += 1
        return codec.encode(
            attrs,
            ts=START_TS + at_s,
            mono=at_s,
            seq=self._seq,
            pid=self._pid,
            request_id=request_id,
            session_id=session,
        )

    def header(self) -> bytes:
        """The first line of a file."""
        return self.line(t.StreamStart(model="made-up", device="cpu", context_tokens=8192), 0)

    def request(self, made: Made, number: int) -> list[bytes]:
        """All events of a request."""
        name, session = f"req_{self._pid}_{number:04d}", f"session{number % 2}"
        start_s = made.end_s - made.duration_s
        start = t.RequestStart(model="local", dialect="anthropic", max_tokens=10, n_messages=1)
        lookup = t.CacheLookup(cache="prefix", result="miss", miss_reason="cold")
        lines = [
            self.line(start, start_s, name, session),
            self.line(lookup, start_s, name, session),
        ]
        if made.tool:
            call = t.ToolCall(name=made.tool, parser="json_tags", arguments='{"path":"a.py"}')
            lines.append(self.line(call, made.end_s, name, session))
        end = t.RequestEnd(
            outcome=made.outcome,
            model="made-up",
            finish_reasons=("end_turn",) if made.outcome == "ok" else (),
            input_tokens=made.input_tokens if made.input_tokens else None,
            cached_tokens=made.cached_tokens if made.input_tokens else None,
            output_tokens=made.output_tokens if made.input_tokens else None,
            duration_s=round(made.duration_s, 6),
            ttft_s=round(made.duration_s / 2, 6),
            prefill_s=round(made.duration_s / 2, 6),
            decode_s=round(made.duration_s / 2, 6),
            status=200 if made.outcome == "ok" else 500,
            error_type="" if made.outcome == "ok" else "api_error",
            cache_result=made.cache,
            cache_tier=made.tier if made.cache in ("exact", "prefix") else "",
            n_tool_calls=int(bool(made.tool)),
        )
        return [*lines, self.line(end, made.end_s, name, session)]

    def tick(self, at_s: float, **figures: float | tuple[str, ...] | None) -> bytes:
        """A tick."""
        return self.line(t.Tick(**figures), at_s)  # type: ignore[arg-type]


def write(path: Path, requests: Iterable[Made], pid: int = 7) -> Path:
    """A whole stream: header, requests, and a tick at the end."""
    stream = Stream(pid)
    made = list(requests)
    lines = [stream.header()]
    for number, request in enumerate(made):
        lines += stream.request(request, number)
    last_s = max((request.end_s for request in made), default=0)
    lines.append(stream.tick(last_s, active=1, queued=2, output_tokens_per_s=21.5))
    path.write_bytes(b"".join(lines))
    return path


def read_streams(places: Sequence[Path]) -> Store:
    """Everything that files and folders hold by now; raises as `GrowingStreams`."""
    streams = GrowingStreams(places)
    try:
        return streams.read()
    finally:
        streams.close()


def fed(store: Store, steps: Iterable[Iterable[Made]]) -> Iterator[float]:
    """Feed a store step by step; after each, the moment that is shown then."""
    stream, number, now_ts = Stream(), 0, START_TS
    for step in steps:
        lines = []
        for made in step:
            lines += stream.request(made, number)
            number += 1
        found = batch(Path("f"), b"".join(lines))
        store.feed([found] if found else [])
        now_ts = max(now_ts + 7, store.last_ts - 5)
        yield now_ts
