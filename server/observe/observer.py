"""Times each request and emits its events; the only place where the server meets telemetry.

Used from the event loop only; the emitter behind it never blocks and never raises.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdeck.server.load import Load
from mlxdeck.server.observe.agents import Agents
from mlxdeck.server.observe.model_changes import ModelChanges
from mlxdeck.server.observe.request_log import request_log
from mlxdeck.server.observe.request_start import Arrival
from mlxdeck.server.observe.sent_calls import SentCalls
from mlxdeck.server.observe.totals import Totals
from mlxdeck.server.observe.trace import Trace
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.write.emitter import Emitter as Emitter
from mlxdeck.telemetry.write.emitter import NullWriter
from mlxdeck.telemetry.write.processors import Processor, Sample, named
from mlxdeck.telemetry.write.processors import UnknownProcessor as UnknownProcessor
from mlxdeck.telemetry.write.writer import Writer


def open_emitter(
    folder: Path | None,
    *,
    max_bytes: int,
    keep_files: int,
    sample: float = 1.0,
    processors: Sequence[Processor] = (),
    header: Mapping[str, Any],
) -> Emitter:
    """A writer into `folder`, or one that forgets; `header` is what `StreamStart` says.

    `sample` is the share of requests that is recorded, beside those that end in an error.
    """
    if folder is None:
        return NullWriter()
    sampled: list[Processor] = [Sample(sample)] if sample < 1 else []
    chain = [*sampled, *processors]
    start = t.StreamStart(**header)
    return Writer(folder, start, max_bytes=max_bytes, keep_files=keep_files, processors=chain)


def find_processors(names: str) -> list[Processor]:
    """Processors of other packages by their names, separated by commas.

    Raises:
        UnknownProcessor: No package has one of that name, or it can't be loaded.
    """
    return named(filter(None, (name.strip() for name in names.split(","))))


class Observer:
    """Makes traces, and keeps the totals of all of them."""

    def __init__(self, emitter: Emitter, model: str, capture: str) -> None:
        self.emitter = emitter
        self.model = model
        self.capture = capture
        self.totals = Totals()
        self._last = (Load(), time.monotonic())
        self._changes = ModelChanges()
        self._agents, self._calls = Agents(), SentCalls()

    def begin(self, arrival: Arrival, *, counts: bool = True) -> Trace:
        """Follow a request from here on; one that doesn't count leaves no trace outside the log."""
        emitter, totals = (self.emitter, self.totals) if counts else (NullWriter(), Totals())
        totals.requests += 1
        return Trace(
            emitter,
            totals,
            self.model,
            self.capture,
            arrival,
            request_log(arrival),
            self._agents,
            self._calls,
        )

    def look(self, load: Load) -> None:
        """Report what has become of the models since the last look."""
        for change in self._changes.since(load.models):
            self.emitter.emit(change)

    def tick(self, load: Load, process_bytes: int) -> None:
        """Report the state of the server; rates are since the last report."""
        now_s = time.monotonic()
        last, last_s = self._last
        self._last = (load, now_s)
        span_s = max(now_s - last_s, 1e-3)
        self.emitter.emit(
            t.Tick(
                active=load.active,
                queued=load.queued,
                max_active=load.max_active,
                max_queued=load.max_queued,
                output_tokens_per_s=(load.output_tokens - last.output_tokens) / span_s,
                prefill_tokens_per_s=(load.prefill_tokens - last.prefill_tokens) / span_s,
                exact_entries=load.exact_entries,
                exact_bytes=load.exact_bytes,
                prefix_entries=load.prefix_entries,
                prefix_bytes=load.prefix_bytes,
                prefix_quantized_bytes=load.prefix_quantized_bytes,
                prefix_limit_bytes=load.prefix_limit_bytes,
                memory_active_bytes=load.memory_active_bytes,
                memory_peak_bytes=load.memory_peak_bytes,
                memory_limit_bytes=load.memory_limit_bytes,
                process_bytes=process_bytes,
                n_requests=self.totals.requests,
                n_errors=self.totals.errors.total(),
                dropped_lines=self.emitter.dropped_lines,
                unloaded_models=_in_state("unloaded", load),
                loading_models=_in_state("loading", load),
            )
        )


def _in_state(state: str, load: Load) -> tuple[str, ...]:
    return tuple(model.name for model in load.models if model.state == state)
