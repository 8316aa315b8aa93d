"""A chunk of a file and its decoded lines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlxdeck.telemetry.columns.record_batch import RecordBatch
from mlxdeck.telemetry.read.fast_decode import Bad, skim
from mlxdeck.telemetry.read.line_buffer import Region


class Frame(msgspec.Struct):
    """What came of a chunk of the file."""

    end: int
    """Up to where lines have been taken of the file."""
    batches: list[RecordBatch]
    bad: list[Bad]


def frame(path: Path, region: Region, chunk: bytes) -> Frame:
    """The lines that the next chunk of a region completes."""
    batches, bad = [], []
    for offset, raw in region.cut(chunk):
        block = skim(raw, offset)
        bad += block.bad
        if block.lines:
            batches.append(RecordBatch.of(path, block.lines, block.offsets))
    return Frame(region.cut_at, batches, bad)
