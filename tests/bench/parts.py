"""The parts of `make bench`, by name. Each runs in a process of its own."""

from __future__ import annotations

import os
import sys
from importlib import import_module

PARTS = {
    "exact": "tests.bench.exact:exact_hits",
    "known": "tests.bench.known:known_conversations",
    "restart": "tests.bench.caching:restarts",
    "rules": "tests.bench.caching:canonical_rules",
    "repeats": "tests.bench.caching:repeats",
    "memory": "tests.bench.memory_day:memory_day",
    "eight_bits": "tests.bench.eight_bits:eight_bits",
    "policy": "tests.bench.simulate:policies",
    "stored": "tests.bench.stored:stored_bytes",
    "wait": "tests.bench.waiting:waits",
    "equal": "tests.bench.equal:equal_texts",
    "rewrite": "tests.bench.rewrite:rewrite",
    "grammars": "tests.bench.held:held_to_grammars",
    "step": "tests.bench.step_path:step_path",
    "throughput": "tests.bench.throughput:throughput",
    "health": "tests.bench.health:health_beside_generations",
    "hostile": "tests.bench.hostile:hostile",
    "week": "tests.bench.week:week",
    "dashboard": "tests.bench.dashboard:dashboard",
    "live": "tests.bench.live:live",
}
"""In the order in which they run: a module and the function in it that takes no arguments."""


def main() -> None:
    """Run one part, which the command line names."""
    module, _, function = PARTS[sys.argv[1]].partition(":")
    getattr(import_module(module), function)()
    # As a server ends: MLX may still be freeing an engine thread's memory, and needs Python for it.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
