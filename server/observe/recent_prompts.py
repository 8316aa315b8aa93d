"""What recent telemetry says about the requests that came."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.file_names import stream_files

MAX_FILES = 8


def systems_seen(folder: Path) -> list[tuple[str, str]]:
    """Digests of system prompts and tools, short, the most frequent first. Reads files."""
    seen: Counter[tuple[str, str]] = Counter()
    for path in stream_files(folder)[-MAX_FILES:] if folder.is_dir() else ():
        with path.open("rb") as file:
            for line in file:
                # Most lines are something else; decoding them all would take ten times as long.
                if b'"request.start"' not in line:
                    continue
                try:
                    attrs = codec.decode(line).attrs
                except codec.Unreadable:
                    continue
                if isinstance(attrs, t.RequestStart) and (attrs.system_hash or attrs.tools_hash):
                    seen[attrs.system_hash, attrs.tools_hash] += 1
    return [parts for parts, _ in seen.most_common()]
