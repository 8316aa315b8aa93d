"""The page `docs/telemetry.md`: every event and field, from the types. Written by `make schema`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mlxdeck.telemetry.schema.codec import Envelope
from mlxdeck.telemetry.schema.events import EVENTS, SCHEMA_VERSION, SEMCONV
from mlxdeck.telemetry.schema.json_schema import field_texts, json_schema

INTRO = f"""# Telemetry

The server writes one JSON object a line to `$MLXDECK_HOME/telemetry/*.jsonl`. Each line is an
event. This page lists every event and every field of schema version {SCHEMA_VERSION}. `make schema`
writes it from the types. [schema-v1.json](../telemetry/schema/schema-v1.json) says the same as JSON
Schema.

Within a version, fields are only added. A reader ignores unknown events and fields, and refuses
only a higher `v`. Unknown or empty values are left out; known values are written, also 0. Names
that begin with `gen_ai.`, `http.`, `error.`, `server.` or `service.` are OpenTelemetry's
({SEMCONV}).

A gap in `seq` within one `pid` means that lines were lost. Every accepted request ends in exactly
one `request.end`. [Questions to the telemetry](questions.md) has queries for jq and DuckDB.
"""


def reference() -> str:
    """The whole page, as Markdown."""
    schema = json_schema()["$defs"]
    parts = [INTRO, "## Every line\n", *_table(Envelope, schema)]
    for name, kind in EVENTS.items():
        about = " ".join((kind.__doc__ or "").split())
        parts += ["", f"## `{name}`\n", f"{about}\n", *_table(kind, schema)]
    return "\n".join(parts) + "\n"


def _table(kind: type[msgspec.Struct], schema: dict[str, Any]) -> Iterator[str]:
    texts, properties = field_texts(kind), schema[kind.__name__]["properties"]
    yield "| field | type | meaning |"
    yield "| --- | --- | --- |"
    for field in msgspec.structs.fields(kind):
        told = _type(properties[field.encode_name], schema)
        yield f"| `{field.encode_name}` | {told} | {_cell(texts[field.name])} |"


def _type(of: dict[str, Any], schema: dict[str, Any]) -> str:
    """A type of JSON Schema in a few words."""
    if ref := of.get("$ref"):
        return _type(schema[ref.rpartition("/")[2]], schema)
    if choices := of.get("anyOf"):
        return " or ".join(_type(each, schema) for each in choices if each.get("type") != "null")
    if values := of.get("enum"):
        return ", ".join(f"`{value}`" if value != "" else "empty" for value in values)
    if "const" in of:
        return f"`{of['const']}`"
    name = of.get("type", "any")
    if name == "array":
        return f"list of {_type(of.get('items', {}), schema)}"
    return {"boolean": "true or false", "string": "text"}.get(name, str(name))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
