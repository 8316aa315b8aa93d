"""Requests of a store as a table in a file: CSV, JSON lines, or Parquet where pyarrow is there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlxdeck.telemetry.batch import CACHES, OUTCOMES
from mlxdeck.telemetry.store import Store

Rows = np.ndarray[Any, np.dtype[Any]]
_NUMBERS = (
    *("start_ts", "end_ts", "duration_s", "ttft_s"),
    *("queue_s", "tokenize_s", "cache_s", "prefill_s", "decode_s"),
    *("input_tokens", "cached_tokens", "output_tokens", "n_tool_calls", "status"),
)
_TEXTS = ("session", "model", "finish", "error_type", "tier")
COLUMNS = ("request_id", *_TEXTS, "outcome", "cache", *_NUMBERS)


class ExportError(Exception):
    """It can't be written; the text says why and what would help."""


def write(store: Store, rows: Rows, path: Path) -> None:
    """Write rows to a file in the format that its name ends with, one of `FORMATS`.

    Raises:
        ExportError: There is no such format, or it needs a package that is not there.
        OSError: It can't be written.
    """
    name = path.suffix.removeprefix(".")
    if name not in FORMATS:
        raise ExportError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    FORMATS[name](store, rows, path)


def _records(store: Store, rows: Rows) -> Iterator[dict[str, Any]]:
    for row in rows.tolist():
        record: dict[str, Any] = {"request_id": store.ids[row]}
        record |= {name: store.text(name, row) for name in _TEXTS}
        record["outcome"] = OUTCOMES[int(store.column("outcome")[row])]
        record["cache"] = CACHES[int(store.column("cache")[row])]
        for name in _NUMBERS:
            value = store.column(name)[row].item()
            # Not known is no number; six digits are more than was measured.
            record[name] = None if value != value else round(value, 6)
        yield record


def _csv(store: Store, rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_records(store, rows))


def _jsonl(store: Store, rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in _records(store, rows):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _parquet(store: Store, rows: Rows, path: Path) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-not-found]
        import pyarrow.parquet as pq  # type: ignore[import-not-found]
    except ImportError as error:
        raise ExportError("Parquet needs one more package: pip install pyarrow") from error
    pq.write_table(pa.Table.from_pylist(list(_records(store, rows))), path)


FORMATS: Mapping[str, Callable[[Store, Rows, Path], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
