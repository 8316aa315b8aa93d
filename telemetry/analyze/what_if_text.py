"""What other caches would have given, as lines of text and as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from mlxdeck.telemetry.analyze.sentences import counted, span
from mlxdeck.telemetry.analyze.what_if import WhatIf, WhatIfReport, WhatWas


def what_if_lines(of: WhatIfReport) -> Iterator[str]:
    """A table: a row for what happened, for the same played again, and for each other setting."""
    measured = of.measured
    if measured.reason:
        yield f"this recording can't be played: {measured.reason}"
        yield from _impossible(measured)
        return
    yield f"{counted(measured.n_requests, 'request')}, {measured.prompt_tokens:,} prompt tokens"
    if measured.n_left_out:
        yield f"{counted(measured.n_left_out, 'request')} before them left out"
    yield from _impossible(measured)
    if measured.n_settings > 1:
        yield f"{measured.n_settings} servers or models with caches of their own; of the last one,"
    yield _memory(of)
    yield from measured.notes
    yield ""
    names = f"{'known':>8}{'answers':>9}{'states':>9}{'prefill':>14}{'decode':>14}{'saves':>14}"
    yield f"{'':<34}{names}"
    total = max(1, measured.prompt_tokens)
    shares = (measured.exact_tokens / total, measured.prefix_tokens / total)
    times = (measured.prefill_s, measured.decode_s)
    yield _row("measured", measured.hit_rate, shares, times, "")
    base = of.in_force.outcome
    for each in (of.in_force, *of.others):
        found = each.outcome
        shares = (found.exact_tokens / total, found.prefix_tokens / total)
        saves_s = base.prefill_s + base.decode_s - found.prefill_s - found.decode_s
        saved = "" if each is of.in_force else _signed(saves_s)
        name = "played as it was" if each is of.in_force else each.name
        times = (found.prefill_s, found.decode_s)
        yield _row(name, found.hit_rate, shares, times, saved)
    yield ""
    off = abs(base.hit_rate - measured.hit_rate)
    yield (
        f"the replay of what was in force differs from what was measured by {100 * off:.1f} points;"
        " trust other rows about as far"
    )


def _impossible(measured: WhatWas) -> Iterator[str]:
    if n := measured.n_impossible:
        yield f"{counted(n, 'request')} left out: no server can have counted their tokens so"


def _memory(of: WhatIfReport) -> str:
    measured = of.measured
    if math.isnan(measured.token_bytes):
        return "memory of a token: unknown, so that sizes can't be compared"
    n_bytes = measured.token_bytes
    told = f"{n_bytes / 1024:,.1f} KiB" if n_bytes >= 1024 else f"{n_bytes:,.0f} bytes"
    size = f"a token takes {told} in memory"
    if measured.limit_unknown:
        return f"{size}; {measured.limit_unknown}"
    limit = f"{measured.limit_bytes / 2**20:,.1f} MiB"
    if not measured.token_bytes:
        return f"{size}, a running state more; the limit is {limit}"
    room = measured.limit_bytes / measured.token_bytes
    return f"{size}; {limit} have room for {room:,.0f} tokens"


def _row(
    name: str, rate: float, shares: tuple[float, float], times: tuple[float, float], saved: str
) -> str:
    cells = f"{rate:>8.1%}{shares[0]:>9.1%}{shares[1]:>9.1%}"
    return f"  {name:<32}{cells}{span(times[0]):>14}{span(times[1]):>14}{saved:>14}".rstrip()


def _signed(seconds: float) -> str:
    return "0 ms" if abs(seconds) < 5e-4 else f"{'-' if seconds < 0 else ''}{span(abs(seconds))}"


def what_if_json(of: WhatIfReport) -> dict[str, Any]:
    """The same for programs; what is unknown or unlimited is null."""
    return {
        "measured": _measured(of.measured),
        "in_force": _played(of.in_force),
        "others": [_played(each) for each in of.others],
    }


def _measured(of: WhatWas) -> dict[str, Any]:
    return {name: _finite(getattr(of, name)) for name in of.__slots__}


def _played(of: WhatIf) -> dict[str, Any]:
    settings = {name: _finite(getattr(of.settings, name)) for name in of.settings.__slots__}
    outcome = {name: _finite(getattr(of.outcome, name)) for name in of.outcome.__slots__}
    rate = of.outcome.hit_rate
    return {"name": of.name, "settings": settings, **outcome, "hit_rate": rate}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
