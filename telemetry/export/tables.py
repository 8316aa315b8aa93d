"""Requests, or their tool calls, as a table in a file: CSV, JSON lines or Parquet.

Rows of requests are first copied from the store as columns, which takes milliseconds. The writing
can then run on another thread. Parquet needs pyarrow.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mlxdeck.telemetry.columns.growable_array import GrowableArray, unknown
from mlxdeck.telemetry.export.own_file import owner_only
from mlxdeck.telemetry.export.request_lines import RequestLines
from mlxdeck.telemetry.schema.events import RequestStart, ToolCall
from mlxdeck.telemetry.schema.figures import FIGURES, OPEN, told_by
from mlxdeck.telemetry.store.store import Store

Record = dict[str, Any]
_TEXTS = ("session", *(each.name for each in FIGURES if each.kind in ("text", "list")))
_CODES = {figure.name: figure.choices for figure in FIGURES if figure.choices}
_SECONDS = ("start_ts", "end_ts", *(each.name for each in FIGURES if each.kind == "seconds"))
_COUNTS = tuple(each.name for each in FIGURES if each.kind in ("tokens", "count"))
COLUMNS = ("request_id", *_TEXTS, *_CODES, *_SECONDS, *_COUNTS)
Kinds = Mapping[str, type]
"""Columns of a table and the type of their values: `str`, `float`, `int` or `bool`."""
KINDS: Kinds = (
    dict.fromkeys(COLUMNS, str) | dict.fromkeys(_SECONDS, float) | dict.fromkeys(_COUNTS, int)
)
CALL_KINDS: Kinds = {
    **{"request_id": str, "session": str, "ts": float, "name": str, "call_id": str},
    **{"index": int, "parser": str, "parse_ok": bool, "parse_error": str, "repaired": bool},
    **{"constrained": bool, "schema_valid": bool, "arguments_bytes": int, "arguments": str},
}
"""Of a tool call; the names are those of the event's fields."""
_KNOWN_EARLY = {
    *("request_id", "session", "start_ts", "outcome"),
    *(figure.name for figure in told_by(RequestStart)),
}
"""Columns that are known of a running request."""
_CHUNK = 10_000


class ExportError(Exception):
    """It can't be written; the text says why and what would help."""


def take(
    store: Store, rows: GrowableArray, as_of_ts: float = math.inf
) -> Mapping[str, GrowableArray]:
    """Some requests as columns with the names of `COLUMNS`, for `write`.

    Requests that ended after `as_of_ts` are exported as open requests. For these, only the start
    and the session are known.
    """
    later = store.later(rows, as_of_ts) | (store.column("outcome")[rows] == OPEN)
    found: dict[str, GrowableArray] = {"request_id": store.names()[rows]}
    for name in _TEXTS:
        found[name] = store.strings.texts(store.column(name)[rows])
    for name, texts_of in _CODES.items():
        codes = np.where(later, OPEN, store.column(name)[rows])
        found[name] = np.array(texts_of, object)[codes]
    found |= {name: store.column(name)[rows] for name in (*_SECONDS, *_COUNTS)}
    return found | {"later": later}


def write(taken: Mapping[str, GrowableArray], path: Path) -> None:
    """Write a table of requests to a file; errors as those of `write_records`."""
    write_records(_records(taken), KINDS, path)


def write_records(records: Iterable[Record], kinds: Kinds, path: Path) -> None:
    """Write a table to a file. The end of its name chooses the format, one of `FORMATS`.

    Raises:
        ExportError: The format is unknown, or needs a package that is not installed.
        OSError: The file can't be written.
    """
    name = path.suffix.removeprefix(".")
    if name not in FORMATS:
        raise ExportError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    FORMATS[name](records, kinds, path)


def calls(requests: Iterable[RequestLines]) -> Iterator[Record]:
    """The tool calls of some requests, each with the columns of `CALL_KINDS`."""
    for request in requests:
        for line in request.lines:
            if isinstance(line.attrs, ToolCall):
                own = {"request_id": line.request_id, "session": line.session_id, "ts": line.ts}
                told = {name: getattr(line.attrs, name) for name in CALL_KINDS if name not in own}
                yield own | told


def _records(taken: Mapping[str, GrowableArray]) -> Iterator[Record]:
    for start in range(0, len(taken["later"]), _CHUNK):
        part = {name: column[start : start + _CHUNK] for name, column in taken.items()}
        columns = [_values(name, part) for name in COLUMNS]
        for values in zip(*columns, strict=True):
            yield dict(zip(COLUMNS, values, strict=True))


def _values(name: str, part: Mapping[str, GrowableArray]) -> list[Any]:
    column, missing = part[name], np.zeros(len(part[name]), bool)
    if name == "request_id":
        return [raw.decode("utf-8", "replace") for raw in column.tolist()]
    if name in (*_SECONDS, *_COUNTS):
        # Not known is no number.
        missing = unknown(column)
    if name in _SECONDS:
        # Six digits are more than was measured.
        column = np.round(column.astype(np.float64), 6)
    if name not in _KNOWN_EARLY:
        missing = missing | part["later"]
    values: list[Any] = column.tolist()
    for place in np.flatnonzero(missing).tolist():
        values[place] = None
    return values


def _csv(records: Iterable[Record], kinds: Kinds, path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="", opener=owner_only) as file:
        writer = csv.DictWriter(file, kinds)
        writer.writeheader()
        writer.writerows(records)


def _jsonl(records: Iterable[Record], kinds: Kinds, path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="", opener=owner_only) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _parquet(records: Iterable[Record], kinds: Kinds, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ExportError("Parquet needs one more package: pip install mlxdeck[parquet]") from error
    types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    schema, left = pa.schema([(name, types[kind]) for name, kind in kinds.items()]), iter(records)
    with open(path, "wb", opener=owner_only) as file, pq.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(left, _CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


FORMATS: Mapping[str, Callable[[Iterable[Record], Kinds, Path], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
