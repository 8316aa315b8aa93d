"""Requests of a store as a table in a file: CSV, JSON lines, or Parquet where pyarrow is there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlxdeck.telemetry.batch import CACHES, OPEN, OUTCOMES
from mlxdeck.telemetry.store import Store

Rows = np.ndarray[Any, np.dtype[Any]]
Record = dict[str, Any]
_NUMBERS = (
    *("start_ts", "end_ts", "duration_s", "ttft_s"),
    *("queue_s", "tokenize_s", "cache_s", "prefill_s", "decode_s"),
    *("input_tokens", "cached_tokens", "output_tokens", "n_tool_calls", "status"),
)
_TEXTS = ("session", "model", "finish", "error_type", "tier")
COLUMNS = ("request_id", *_TEXTS, "outcome", "cache", *_NUMBERS)


class ExportError(Exception):
    """It can't be written; the text says why and what would help."""


def write(store: Store, rows: Rows, path: Path, as_of_ts: float = math.inf) -> None:
    """Write rows to a file in the format that its name ends with, one of `FORMATS`.

    Requests that ended after `as_of_ts` are written as what they were then: open.

    Raises:
        ExportError: There is no such format, or it needs a package that is not there.
        OSError: It can't be written.
    """
    name = path.suffix.removeprefix(".")
    if name not in FORMATS:
        raise ExportError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    FORMATS[name](list(_records(store, rows, as_of_ts)), path)


def _records(store: Store, rows: Rows, as_of_ts: float) -> Iterator[dict[str, Any]]:
    later = store.later(rows, as_of_ts).tolist()
    for row, running in zip(rows.tolist(), later, strict=True):
        record: dict[str, Any] = {"request_id": store.ids[row]}
        record |= {name: store.text(name, row) for name in _TEXTS}
        record["outcome"] = OUTCOMES[int(store.column("outcome")[row])]
        record["cache"] = CACHES[int(store.column("cache")[row])]
        for name in _NUMBERS:
            value = store.column(name)[row].item()
            # Not known is no number; six digits are more than was measured.
            record[name] = None if value != value else round(value, 6)
        if running:
            known = ("request_id", "session", "model", "start_ts")
            record = {name: record[name] if name in known else None for name in record}
            record["outcome"] = OUTCOMES[OPEN]
        yield record


def _csv(records: Sequence[Record], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(records)


def _jsonl(records: Sequence[Record], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _parquet(records: Sequence[Record], path: Path) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-not-found]
        import pyarrow.parquet as pq  # type: ignore[import-not-found]
    except ImportError as error:
        raise ExportError("Parquet needs one more package: pip install pyarrow") from error
    pq.write_table(pa.Table.from_pylist(list(records)), path)


FORMATS: Mapping[str, Callable[[Sequence[Record], Path], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
