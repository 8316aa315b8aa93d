"""The schema of a telemetry line, for programs that are not this one: exported by `make schema`."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxdeck.telemetry.schema.codec import Envelope
from mlxdeck.telemetry.schema.events import EVENTS, SCHEMA_VERSION


def json_schema() -> dict[str, Any]:
    """The schema of a line, as JSON Schema: one branch per event."""
    kinds = list(EVENTS.values())
    refs, definitions = msgspec.json.schema_components(
        [Envelope, *kinds], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"mlxdeck telemetry line, version {SCHEMA_VERSION}",
        "allOf": [refs[0]],
        "oneOf": [
            {"properties": {"event": {"const": kind.NAME}, "attrs": ref}}
            for kind, ref in zip(kinds, refs[1:], strict=True)
        ],
        "$defs": definitions,
    }
