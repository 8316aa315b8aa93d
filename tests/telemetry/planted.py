"""Traffic with faults that were planted: sessions of turns, and one session or more a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mlxdeck.telemetry.schema import events as t
from tests.streams import NAME, Stream

READ_S, WRITE_S = 0.001, 0.02
"""Seconds a token."""
SYSTEM_TOKENS, NEW_TOKENS, OUT_TOKENS = 10_000, 400, 100
TOOLS = ("Read", "Bash")
WINDOW = 131_072


@dataclass(frozen=True, slots=True)
class Turn:
    """One request, with what its events say."""

    session: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int = OUT_TOKENS
    shared_tokens: int = SYSTEM_TOKENS
    miss_reason: str = ""
    blame: str = ""
    tools: tuple[str, ...] = TOOLS
    tool_tokens: tuple[int, ...] = ()
    queue_s: float = 0.0
    write_s: float = WRITE_S
    finish: str = "end_turn"
    max_tokens: int = 4096
    outcome: str = "ok"
    status: int = 200
    error_type: str = ""
    ended_by: str = ""
    let_go: str = ""
    provider: str = "mlx"
    backend: str = "local"
    fell_back_from: str = ""
    fallback_reason: str = ""
    calls: tuple[t.ToolCall, ...] = (t.ToolCall(name="Read", parser="json_tags"),)
    reached: str = "decode"
    """How far it came: `prepare`, `queue`, `prefill` or `decode`."""

    @property
    def prefill_s(self) -> float:
        return READ_S * (self.input_tokens - self.cached_tokens)

    @property
    def decode_s(self) -> float:
        return self.write_s * self.output_tokens

    @property
    def duration_s(self) -> float:
        return 0.01 + self.queue_s + self.prefill_s + self.decode_s


def session(name: str, n_turns: int = 8, **changes: object) -> list[Turn]:
    """A conversation that goes on: each turn knows all of the one before."""
    made, known = [], SYSTEM_TOKENS
    for _ in range(n_turns):
        made.append(Turn(name, known + NEW_TOKENS, known))
        known += NEW_TOKENS + OUT_TOKENS
    return [replace(turn, **changes) for turn in made]  # type: ignore[arg-type]


def clean(n: int = 6) -> list[Turn]:
    """Sessions in which nothing is wrong, but that the server's first request is cold."""
    turns = [turn for number in range(n) for turn in session(f"clean {number}")]
    return [replace(turns[0], cached_tokens=0, miss_reason="cold"), *turns[1:]]


def _bad_calls(fault: dict[str, object], parser: str) -> list[Turn]:
    call = t.ToolCall(parser=parser, **fault)  # type: ignore[arg-type]
    return session(f"calls {parser}", 8, calls=(call,))


def _first_slow() -> list[Turn]:
    cold = {"cached_tokens": 0, "miss_reason": "cold"}
    return [turn for n in range(14) for turn in session(f"cold {n}", 1, **cold)]


def _diverged(block: str, n_known: int, tools: tuple[str, ...] = TOOLS) -> list[Turn]:
    """From the second turn on, each differs from the one before."""
    turns = session(f"diverged {block}", 14)
    changes = {"cached_tokens": n_known, "miss_reason": "diverged", "blame": block}
    other = [(*tools, f"mcp {n}") if tools != TOOLS else tools for n in range(14)]
    return (
        [turns[0]]
        + [
            replace(turn, tools=other[n], **changes)  # type: ignore[arg-type]
            for n, turn in enumerate(turns[1:])
        ]
    )


def _evicted() -> list[Turn]:
    turns = session("evicted", 14)
    lost = {"cached_tokens": SYSTEM_TOKENS // 10, "miss_reason": "evicted"}
    return [turns[0], *(replace(turn, **lost) for turn in turns[1:])]  # type: ignore[arg-type]


def _dominating() -> list[Turn]:
    """Each brings much that is new."""
    return [
        Turn(f"reads {n}", 18_000, 500, output_tokens=20, shared_tokens=500) for n in range(160)
    ]


def _long() -> list[Turn]:
    sizes = range(60_000, 100_000, 4_000)
    return [Turn("long", size, size - NEW_TOKENS, 400, write_s=3 * WRITE_S) for size in sizes]


def _unused() -> list[Turn]:
    tools = ("Read", "Bash", "mcp__maps", "mcp__mail")
    return session("unused", 12, tools=tools, tool_tokens=(300, 500, 2_000, 2_200))


def _failed(n: int, **changes: object) -> list[Turn]:
    return session(
        "failed " + "".join(map(str, changes.values())), n, outcome="error", calls=(), **changes
    )


PLANTED: dict[str, Callable[[], list[Turn]]] = {
    "first_request_slow": _first_slow,
    "same_block": lambda: _diverged("system", 500),
    "tools_change": lambda: _diverged("tools.mcp 1", 3_000, ("Read",)),
    "evicted": _evicted,
    "prefill_dominates": _dominating,
    "long_conversations": _long,
    "queueing": lambda: session("queue", 40, queue_s=30.0),
    "answers_cut": lambda: session(
        "cut", 12, finish="max_tokens", output_tokens=1_024, max_tokens=1_024
    ),
    "calls_refused": lambda: _bad_calls({"parse_ok": False}, "python_calls"),
    "calls_repaired": lambda: _bad_calls({"name": "Read", "repaired": True}, "xml_calls"),
    "answers_looping": lambda: session("loops", 10, finish="end_turn", ended_by="loop"),
    "grammar_left": lambda: _failed(10, let_go="token 7 is not allowed", error_type="api_error"),
    "unused_tools": _unused,
    "disconnects": lambda: session(
        "leaves", 40, outcome="cancelled", status=499, reached="prefill", calls=()
    ),
    "time_outs": lambda: _failed(15, status=504, provider="anthropic", reached="prepare"),
    "upstream_fails": lambda: _failed(
        12, status=502, provider="openai", backend="big", error_type="api_error"
    ),
    "falls_back": lambda: session("falls", 40, fell_back_from="big", fallback_reason="down"),
    "requests_fail": lambda: _failed(40, status=500, error_type="api_error", reached="queue"),
}
"""By the name of the finding; each also shows what belongs to it and nothing else."""


def write(path: Path, turns: Iterable[Turn], *, began_s: float = 0.0, window: int = WINDOW) -> Path:
    """A stream of some requests, one after the other; its process is named by its beginning."""
    stream, at_s = Stream(pid=7 + int(began_s)), began_s + 1.0
    lines = [stream.line(t.StreamStart(model="made-up", context_tokens=window), began_s)]
    for number, turn in enumerate(turns):
        at_s += 0.1
        lines += _lines(stream, turn, f"req_{began_s:.0f}_{number:05}", at_s)
        at_s += turn.duration_s
    path.write_bytes(b"".join(lines))
    return path


def _lines(stream: Stream, turn: Turn, name: str, at_s: float) -> list[bytes]:
    end_s = at_s + turn.duration_s
    local = turn.provider == "mlx"
    start = t.RequestStart(
        model="local",
        max_tokens=turn.max_tokens,
        tool_names=turn.tools,
        tools_hash="".join(turn.tools)[-12:],
    )
    told: list[tuple[t.Attrs, float]] = [(start, at_s)]
    if local:
        lookup = t.CacheLookup(
            cache="prefix",
            matched_tokens=turn.cached_tokens,
            prompt_tokens=turn.input_tokens,
            miss_reason=turn.miss_reason,
            diverged_block=turn.blame,
            shared_tokens=turn.shared_tokens,
            tool_tokens=turn.tool_tokens,
        )
        told.append((lookup, at_s + 0.01))
    told += [(call, end_s) for call in turn.calls]
    steps = ("prepare", "queue", "prefill", "decode").index(turn.reached)
    end = t.RequestEnd(
        provider=turn.provider,
        outcome=turn.outcome,
        model="made-up",
        finish_reasons=(turn.finish,) if turn.outcome == "ok" else (),
        input_tokens=turn.input_tokens if steps else None,
        cached_tokens=turn.cached_tokens if steps and local else None,
        output_tokens=turn.output_tokens if steps == 3 else None,
        duration_s=turn.duration_s,
        ttft_s=turn.queue_s + turn.prefill_s if steps == 3 else None,
        status=turn.status,
        error_type=turn.error_type,
        cache_result=("prefix" if turn.cached_tokens else "miss") if local else "",
        cache_tier="ram" if turn.cached_tokens and local else "",
        miss_reason=turn.miss_reason,
        diverged_block=turn.blame,
        queue_s=turn.queue_s if steps and local else None,
        prefill_s=turn.prefill_s if steps > 1 and local else None,
        decode_s=turn.decode_s if steps == 3 else None,
        n_tool_calls=len(turn.calls),
        ended_by=turn.ended_by,
        let_go=turn.let_go,
        backend=turn.backend,
        fell_back_from=turn.fell_back_from,
        fallback_reason=turn.fallback_reason,
    )
    told.append((end, end_s))
    return [stream.line(attrs, moment_s, name, turn.session) for attrs, moment_s in told]


def planted(folder: Path, *names: str) -> Path:
    """A clean stream with some faults in it."""
    turns = clean() + [turn for name in names for turn in PLANTED[name]()]
    return write(folder / NAME, turns)
