"""The rows of `make bench`: what is promised, the limit of each, and the best known elsewhere.

Budgets are of ratios and counts as far as that is possible: what takes a time says little about
another machine. A part reports a row's figure by its name, see `figures`.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

_MEETS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure that the summary shows."""

    name: str
    part: str
    """The part of the benchmark that measures it."""
    what: str
    unit: str
    """`%` for a share; otherwise it is shown behind the number."""
    budget: str = ""
    """As `<= 1.05`; of a share, the share and not the percent. Empty where there is none."""
    counted: bool = False
    """Whether it is the same on every machine, and tests assert it."""
    elsewhere: str = ""
    """The best that is known of others, by their own word."""

    def meets(self, value: float) -> bool:
        """Whether a figure is within the budget."""
        sign, _, limit = self.budget.partition(" ")
        return bool(_MEETS[sign](value, float(limit)))

    def shown(self, value: float) -> str:
        """A figure for a person."""
        if self.unit == "%":
            return f"{value:.1%}"
        digits = 0 if abs(value) >= 1000 or value == int(value) else 2 if abs(value) < 100 else 1
        return f"{value:,.{digits}f} {self.unit}".rstrip()


_ROWS = (
    Row("exact_p50", "exact", "exact repeat of 78 KB, p50", "ms", "<= 1",
        elsewhere="none publishes one"),
    Row("exact_p99", "exact", "exact repeat of 78 KB, p99", "ms", "<= 2"),
    Row("exact_per_s", "exact", "exact repeats a second, one connection", "/s", ">= 1000"),
    Row("exact_disk", "exact", "exact repeat from disk, p50", "ms", "<= 3"),

    Row("known_ram", "known", "first token of a known conversation / its new tokens alone", "x",
        "<= 1.1", elsewhere="Locals 2.4 s after 138k tokens"),
    Row("known_restart", "known", "the same after a restart", "x", "<= 1.1"),
    Row("known_8", "known", "the same, 8 conversations at once", "x", "<= 1.1"),
    Row("known_computed", "known", "tokens computed / new tokens of those turns", "x", "<= 1.1",
        counted=True),
    Row("restored_of_cold", "restart", "first token after a restart / reading all of it", "x"),

    Row("reused_worst", "rules", "Claude Code: reused / tokens that are not new, worst turn", "%",
        ">= 0.98", counted=True, elsewhere="vllm-mlx 99.9 %"),
    Row("reused_old", "rules", "the same, all turns from the second on", "%", ">= 0.98",
        counted=True),
    Row("reused_all", "rules", "the same / all tokens of the prompts", "%", counted=True),

    Row("memory_peak", "memory", "simulated 8 hours on 64 GB: KV bytes at most / limit", "x",
        "<= 1", counted=True),
    Row("memory_hits", "memory", "the same: known tokens / those of an unlimited cache", "%",
        counted=True),
    Row("memory_small", "memory", "the same: steps until <= 512 new tokens are read, 90 %", "steps",
        counted=True),

    Row("stored_bytes", "stored", "KV bytes of 10 conversations / each token of them once", "x",
        "<= 1.05", counted=True, elsewhere="whole states: 10"),

    Row("wait_steps", "wait", "steps until 20 new tokens behind two prompts of 20k are read",
        "steps", "<= 2", counted=True, elsewhere="Locals 41 -> 7 s"),

    Row("equal_blocks", "equal", "greedy answers that differ with reused prompts", "", "= 0",
        counted=True),
    Row("equal_restore", "equal", "the same with prompts restored from disk", "", "= 0",
        counted=True),
    Row("equal_lookup", "equal", "the same with prompt lookup", "", "= 0", counted=True),
    Row("equal_forced", "equal", "the same with forced spans", "", "= 0", counted=True),

    Row("eight_top1", "eight_bits", "8 bits at rest: tokens that stay the most likely one", "%",
        ">= 0.99"),
    Row("eight_kl", "eight_bits", "8 bits at rest: KL divergence a token, in thousandths", "nats",
        "<= 1"),

    Row("health_p99", "health", "/health every 20 ms beside 8 generations, p99", "ms", "<= 10",
        elsewhere="vllm-mlx 14 ms"),
    Row("hostile_gap", "hostile", "longest gap of /health beside hostile input", "ms", "<= 100"),

    Row("tokens_1", "throughput", "tokens/s, 1 client / bare mlx-lm loop", "x", ">= 0.97"),
    Row("tokens_4", "throughput", "tokens/s, 4 clients / bare mlx-lm loop", "x", ">= 0.97"),
    Row("tokens_8", "throughput", "tokens/s, 8 clients / bare mlx-lm loop", "x", ">= 0.97"),
    Row("tokens_peer_8", "throughput", "tokens/s, 8 clients / mlx_lm.server", "x", ">= 1"),

    *(
        Row(f"step_python_{n}", "step", f"our Python a step on the engine thread, {n} clients", "%",
            "<= 0.02")
        for n in (1, 4, 8, 16)
    ),
    Row("step_passes", "step", "forward passes a step", "", "<= 1", counted=True),
    Row("step_evals", "step", "evals a step", "", "= 1", counted=True),
    Row("step_calls", "step", "calls to the event loop a step", "", "= 1", counted=True),

    Row("rewrite_tokens", "rewrite", "tokens a pass, files written again with a change", "",
        ">= 4", counted=True),
    Row("rewrite_time", "rewrite", "a file written again, tokens/s / one token a pass", "x",
        ">= 1.5", elsewhere="Locals 3.0 x, suffix decoding 1.8-4.5 x"),
    Row("rewrite_loss", "rewrite", "time lost where nothing repeats", "%", "<= 0.01"),

    Row("held_of_free", "grammars", "tokens/s held to a schema / free", "x", ">= 1",
        elsewhere="llguidance 0.05 ms a token"),
    Row("held_of_free_4", "grammars", "the same, 4 at once", "x", ">= 1"),
    Row("held_forced", "grammars", "tokens of agents' calls that are not sampled", "%", ">= 0.3",
        counted=True),

    Row("report_week", "week", "mlxdeck report over a week of 200,000 requests", "s", "<= 5"),

    Row("dashboard_first", "dashboard", "dashboard, 1,000,000 requests, first rows", "s", "<= 0.3",
        elsewhere="toolong 3.5 s, lines alone"),
    Row("dashboard_all", "dashboard", "all of them", "s", "<= 5"),
    Row("dashboard_memory", "dashboard", "memory", "MB", "<= 300", elsewhere="toolong 1,370 MB"),
    Row("dashboard_key", "dashboard", "a key until the next one is heard, at most", "ms", "<= 33"),
    Row("live_screen", "live", "500 events a second, event to screen, P95", "ms", "<= 150"),
    Row("live_idle", "live", "a core when idle", "%", "<= 0.02"),
)  # fmt: skip
ROWS = {row.name: row for row in _ROWS}
