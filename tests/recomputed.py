"""What a stream says as of a moment, read with nothing of telemetry/: one record a request.

Slow and simple, so that the dashboard's figures can be held against it. A line counts if its time
is not after the moment.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
NAN = math.nan
IN = "gen_ai.usage.input_tokens"
OUT = "gen_ai.usage.output_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
DURATION = "gen_ai.server.request.duration"
TTFT = "gen_ai.server.time_to_first_token"
NEAR = ("", "ram", "flight")
OMITTED = {"outcome": "ok", OUT: 0, CACHED: 0, DURATION: 0.0, "mlx.tool_calls": 0}
"""What lines of 0.1 left out; later ones name their operation."""


def read(path: Path) -> list[Line]:
    """Every line of a file."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@dataclass(slots=True)
class Asked:
    """A request, as far as it was known."""

    id: str
    number: int
    """How many others had a line in the file before its first one."""
    pid: int
    start_ts: float
    session: str
    start: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] | None = None
    end_ts: float = math.inf
    calls: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    """Names of the tools that it called, as far as one may filter by them."""
    came: list[tuple[float, int, int]] = field(default_factory=list)
    """Tokens that were written and read while it ran, and when."""
    last: dict[str, int] = field(default_factory=dict)
    """How far it was by its last report: as its end would tell it."""
    state: tuple[str, float] = ("", 0.0)
    """What it did by its last report, and since when."""
    life: int = 0
    """Which one of the runs that had the number of its process."""
    lost_ts: float = math.inf
    """When its server was heard last, if that is gone and the request has no end."""

    @property
    def outcome(self) -> str:
        """How it ended."""
        if self.end is not None:
            return str(self.end["outcome"])
        return "open" if self.lost_ts == math.inf else "lost"

    @property
    def over_ts(self) -> float:
        """When it ended, or was lost."""
        return self.end_ts if self.end is not None else self.lost_ts

    def told(self, name: str, unknown: Any = NAN) -> Any:
        """A figure of its end; of a request that was lost, what it reported last."""
        if self.outcome == "lost":
            return self.last.get(name, unknown)
        return (self.end or {}).get(name, unknown)

    @property
    def is_exact(self) -> bool:
        """Whether its whole answer was known."""
        return bool(self.told("mlx.cache.result", "") == "exact")

    @property
    def known_tokens(self) -> int:
        """Prompt tokens that were not computed."""
        return int(self.told(IN if self.is_exact else CACHED, 0))

    @property
    def judged_tokens(self) -> int:
        """Prompt tokens, if it is known how many of them came from a cache."""
        is_judged = self.is_exact or not math.isnan(self.told(CACHED))
        return int(self.told(IN, 0)) if is_judged else 0


Predicate = Callable[[Asked], bool]


@dataclass(slots=True)
class Known:
    """All of a stream as of a moment."""

    requests: list[Asked]
    """In the order of the file."""
    first_ts: float
    ticks: list[Line]
    stopped: dict[int, float]
    results: dict[int, bool]
    """Whether the tool failed, by the identity of the call's attributes, of the results that have
    come. Answers that are given again have the same ids of calls."""

    def ended(self, start_ts: float, end_ts: float, wanted: Predicate) -> list[Asked]:
        """Those that ended between two moments, the earliest first."""
        found = [
            each for each in self.requests if start_ts <= each.over_ts <= end_ts and wanted(each)
        ]
        return sorted(found, key=lambda each: (each.over_ts, each.number))


def replayed(lines: Sequence[Line], moment_ts: float) -> Known:
    """What is shown of a moment when all lines are known.

    Of a request that ends later, or is lost later, it isn't told which tools it called. One that
    was lost is known to be from the last line of its server on.
    """
    found, whole = known(lines, moment_ts), known(lines)
    over = {each.id: min(each.end_ts, each.lost_ts) for each in whole.requests}
    lost = {each.id: each.lost_ts for each in whole.requests}
    for each in found.requests:
        if each.end is None and lost[each.id] <= moment_ts:
            each.lost_ts = lost[each.id]
        if moment_ts < over[each.id] < math.inf:
            each.called = []
    return found


def known(lines: Sequence[Line], moment_ts: float = math.inf) -> Known:
    """What the lines say up to a moment."""
    requests: dict[str, Asked] = {}
    ticks: list[Line] = []
    stopped: dict[int, float] = {}
    first_ts, servers = math.inf, list[tuple[Any, float, int]]()
    lives: Counter[int] = Counter()
    heard: dict[tuple[int, int], float] = {}
    for line in lines:
        ts, event, attrs = line["ts"], line["event"], line["attrs"]
        if ts > moment_ts:
            continue
        first_ts, pid = min(first_ts, ts), line["pid"]
        lives[pid] += event == "stream.start" and "mlx.previous_file" not in attrs
        heard[pid, lives[pid]] = max(ts, heard.get((pid, lives[pid]), 0))
        if event == "tick":
            ticks.append(line)
        elif event == "server.stop":
            stopped[line["pid"]] = max(ts, stopped.get(line["pid"], 0))
        elif event == "stream.start" and attrs.get("server.port"):
            address = (attrs.get("host.name"), attrs["server.address"], attrs["server.port"])
            servers.append((address, ts, line["pid"]))
        if name := line.get("request_id"):
            _add(requests, name, line, lives[pid])
    _note_killed(servers, stopped)
    for each in requests.values():
        is_over = each.start_ts <= stopped.get(each.pid, 0) or each.life < lives[each.pid]
        if each.end is None and is_over:
            each.lost_ts = heard[each.pid, each.life]
    return Known(list(requests.values()), first_ts, ticks, stopped, _results(lines, moment_ts))


def _results(lines: Iterable[Line], moment_ts: float) -> dict[int, bool]:
    """As `Known.results`: of the last call with that id that has none."""
    found: dict[int, bool] = {}
    made: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["ts"] > moment_ts or line["event"] not in ("tool_call", "tool_result"):
            continue
        attrs = line["attrs"]
        waiting = made.setdefault(attrs.get("gen_ai.tool.call.id", ""), [])
        if line["event"] == "tool_call":
            waiting.append(attrs)
        elif waiting:
            found[id(waiting.pop())] = attrs.get("mlx.tool.failed", False)
    return found


def _old(attrs: dict[str, Any]) -> dict[str, Any]:
    """An end that a server of 0.1 wrote."""
    whole = OMITTED | attrs
    if not whole.get(TTFT):
        whole.pop(TTFT, None)
    if IN not in whole:
        # It never came as far as to read the prompt.
        del whole[OUT], whole[CACHED]
    return whole


def _note_killed(servers: list[tuple[Any, float, int]], stopped: dict[int, float]) -> None:
    """Two processes can't listen at one address: the one before had been killed."""
    servers.sort(key=lambda server: server[1])
    for place, (address, began_ts, pid) in enumerate(servers):
        later = [each for each in servers[place + 1 :] if each[0] == address and each[2] != pid]
        if later and not began_ts <= stopped.get(pid, -1) <= later[0][1]:
            stopped[pid] = max(later[0][1], stopped.get(pid, 0))


def _add(requests: dict[str, Asked], name: str, line: Line, life: int) -> None:
    new = Asked(name, len(requests), line["pid"], line["ts"], line.get("session_id", ""))
    new.life = life
    each = requests.setdefault(name, new)
    each.start_ts = min(each.start_ts, line["ts"])
    each.session = each.session or line.get("session_id", "")
    if line["event"] == "request.start":
        each.start = dict(line["attrs"])
    elif line["event"] == "tool_call":
        each.calls.append((line["ts"], line["attrs"]))
        each.called.append(line["attrs"].get("gen_ai.tool.name", ""))
    elif line["event"] == "request.progress":
        told = line["attrs"]
        each.last |= {name: told[name] for name in (IN, CACHED, OUT) if name in told}
        each.state = told["mlx.progress.state"], line["ts"] - told.get("mlx.progress.state_s", 0)
        n_read = told.get("mlx.progress.read_tokens", 0) - told.get(CACHED, 0)
        before = [int(sum(point[place] for point in each.came)) for place in (1, 2)]
        each.came.append(
            (line["ts"], max(0, told.get(OUT, 0) - before[0]), max(0, n_read - before[1]))
        )
    elif line["event"] == "request.end":
        attrs = dict(line["attrs"])
        each.end, each.end_ts = (
            (attrs if "gen_ai.operation.name" in attrs else _old(attrs)),
            line["ts"],
        )


def rank(values: Iterable[float], percent: float) -> float:
    """A percentile by nearest rank of what is known."""
    found = sorted(value for value in values if not math.isnan(value))
    return found[max(0, math.ceil(percent / 100 * len(found)) - 1)] if found else NAN


@dataclass(frozen=True, slots=True)
class Totals:
    """Figures of some requests that have ended."""

    n_requests: int
    n_errors: int
    durations: tuple[float, float, float]
    n_answers: int
    ttft_p50: float
    exact: float
    prefix: float
    slower: float
    input_tokens: int
    output_tokens: int


def totals(ended: Sequence[Asked]) -> Totals:
    """Everything that can be added up or ranked."""
    good = [each for each in ended if each.outcome == "ok"]
    times = [each.told(DURATION) for each in good]
    judged = sum(each.judged_tokens for each in ended)

    def share(chosen: Predicate) -> float:
        tokens = sum(each.known_tokens for each in ended if chosen(each))
        return tokens / judged if judged else NAN

    return Totals(
        len(ended),
        sum(each.outcome == "error" for each in ended),
        (rank(times, 50), rank(times, 95), rank(times, 99)),
        sum(not math.isnan(each) for each in times),
        rank((each.told(TTFT) for each in good), 50),
        share(lambda each: each.is_exact),
        share(lambda each: not each.is_exact),
        share(lambda each: each.told("mlx.cache.tier", "") not in NEAR) if judged else 0.0,
        sum(int(each.told(IN, 0)) for each in ended),
        sum(int(each.told(OUT, 0)) for each in ended),
    )


@dataclass(slots=True)
class Calls:
    """Tool calls of some requests."""

    n: int = 0
    n_unreadable: int = 0
    n_repaired: int = 0
    n_results: int = 0
    n_failed: int = 0


def calls(ended: Iterable[Asked], results: Mapping[int, bool]) -> dict[str, Calls]:
    """By tool; what could not be read has no name."""
    found: dict[str, Calls] = {}
    for _, call in (made for each in ended for made in each.calls):
        own = found.setdefault(call.get("gen_ai.tool.name", ""), Calls())
        own.n += 1
        own.n_unreadable += not call.get("mlx.tool.parse_ok", True)
        own.n_repaired += bool(call.get("mlx.tool.repaired"))
        if id(call) in results:
            own.n_results += 1
            own.n_failed += results[id(call)]
    return found


def saved(ended: Sequence[Asked], before: Sequence[Asked]) -> tuple[int, float]:
    """Prompt tokens of answers that were not computed, and what it would have taken.

    Each at its own speed, if it computed 64 tokens; else as those of `before` in the median.
    """
    done = [each for each in before if each.outcome == "ok" and not each.is_exact]
    told = sorted(rate for rate in map(_rate, done) if not math.isnan(rate))
    middle = (told[(len(told) - 1) // 2] + told[len(told) // 2]) / 2 if told else NAN
    n_written = sum(int(each.told(OUT, 0)) for each in done)
    write_s = sum(each.told("mlx.decode_s", 0.0) for each in done) / n_written if n_written else NAN
    n_known, seconds = 0, 0.0
    for each in ended:
        if each.outcome == "ok" and each.known_tokens:
            own_s = NAN if each.is_exact else _rate(each)
            n_known += each.known_tokens
            seconds += each.known_tokens * (middle if math.isnan(own_s) else own_s)
        if each.outcome == "ok" and each.is_exact and (n_repeated := int(each.told(OUT, 0))):
            seconds += n_repeated * write_s
    return n_known, seconds


def _rate(each: Asked) -> float:
    """Seconds that a token of its prompt took; NaN if too few were computed to tell."""
    n_new = each.judged_tokens - each.known_tokens
    return float(each.told("mlx.prefill_s")) / n_new if n_new >= 64 else NAN


def tokens_between(
    known: Known, start_ts: float, end_ts: float, wanted: Predicate = lambda _: True
) -> tuple[int, int]:
    """Tokens that were written, and that were read anew, as they came; the rest at the end."""
    n_written = n_read = 0
    for each in filter(wanted, known.requests):
        for ts, written, read in each.came:
            if start_ts <= ts <= end_ts:
                n_written, n_read = n_written + written, n_read + read
        # What was lost did not go any further than it had reported.
        if each.end is not None and start_ts <= each.end_ts <= end_ts:
            before = [int(sum(point[place] for point in each.came)) for place in (1, 2)]
            n_computed = each.judged_tokens - int(each.told(CACHED, 0))
            n_written += max(0, int(each.told(OUT, 0)) - before[0])
            n_read += max(0, n_computed - before[1])
    return n_written, n_read


def ticked(known: Known, now_s: float) -> list[dict[str, Any]]:
    """The last ticks of the servers that run at a moment; none if the newest is 15 s old."""
    running: dict[int, Line] = {}
    for tick in sorted(known.ticks, key=lambda line: line["ts"]):
        if now_s - tick["ts"] <= 15:
            running[tick["pid"]] = tick
    return [
        tick["attrs"] for pid, tick in running.items() if known.stopped.get(pid, 0) < tick["ts"]
    ]


def spans(known: Known, start_ts: float, now_s: float, wanted: Predicate) -> dict[str, list[float]]:
    """When requests of a window began, were read, were written and ended."""
    found = {}
    for each in known.requests:
        is_over = each.over_ts < math.inf
        if not wanted(each) or (is_over and not start_ts <= each.over_ts <= now_s):
            continue
        end_ts = each.over_ts if is_over else now_s
        if each.end is not None:
            write_ts = max(each.start_ts, end_ts - each.told("mlx.decode_s", 0.0))
            read_ts = max(each.start_ts, write_ts - each.told("mlx.prefill_s", 0.0))
        else:
            state, since_ts = each.state
            read_ts = write_ts = end_ts
            if state == "decode":
                read_ts, write_ts = each.start_ts, max(each.start_ts, since_ts)
            elif state == "prefill":
                read_ts = max(each.start_ts, since_ts)
        found[each.id] = [each.start_ts, read_ts, write_ts, end_ts]
    return found


def digits(value: float, n: int) -> str:
    """A number with so many digits after its point."""
    return format(value, f".{n}f")


def seconds_text(seconds: float) -> str:
    """Seconds as figures show them."""
    if math.isnan(seconds):
        return "–"
    if seconds == 0:
        return "0"
    if seconds < 5e-5:
        return f"{digits(seconds * 1e6, 0)}µs"
    if seconds < 0.00995:
        return f"{digits(seconds * 1000, 1)}ms"
    if seconds < 0.9995:
        return f"{digits(seconds * 1000, 0)}ms"
    if seconds < 59.95:
        return f"{digits(seconds, 2 if seconds < 9.995 else 1)}s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{round(seconds) % 60:02d}s"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def count_text(n: float) -> str:
    """A number of things as figures show it."""
    if n < 1000:
        return digits(n, 0)
    return f"{digits(n / 1e3, 1)}k" if n < 999_950 else f"{digits(n / 1e6, 1)}M"


def share_text(share: float) -> str:
    """A share as figures show it."""
    if math.isnan(share):
        return "–"
    return f"{digits(100 * share, 1 if 0.99 < share < 0.9995 else 0)}%"


def bytes_text(n: float) -> str:
    """Bytes as figures show them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if n >= 0.9995 * size:
            return f"{digits(n / size, int(unit == 'GB' and n / size < 99.95))}{unit}"
    return f"{digits(n, 0)}B"
