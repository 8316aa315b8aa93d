"""What an event is on disk stays readable: today's by tomorrow's readers, and the reverse."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.schema.codec import Line, NewerSchema, Unreadable, decode, encode
from mlxdeck.telemetry.schema.events import (
    EVENTS,
    SCHEMA_VERSION,
    Attrs,
    RequestEnd,
    Tick,
)
from mlxdeck.telemetry.schema.json_schema import json_schema

# Written by hand when version 1 was new. Lines may be added for new events, none may be changed.
V1_LINES = (Path(__file__).parent.parent / "data" / "v1.jsonl").read_bytes().splitlines()

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    tuple[int, ...]: st.lists(st.integers(0, 2**40)).map(tuple),
}
VALUES |= {kind | None: st.none() | VALUES[kind] for kind in (str, int, float, bool)}

ENVELOPE: dict[str, Any] = {"v": 1, "ts": 1.5, "mono": 2.5, "seq": 3, "pid": 4}


def raw(**changes: Any) -> bytes:
    """A line as another program might write it."""
    return json.dumps(ENVELOPE | {"event": "tick", "attrs": {}} | changes).encode()


def written(attrs: Attrs) -> bytes:
    """An event as mlxdeck writes it."""
    return encode(attrs, ts=1.5, mono=2.5, seq=3, pid=4, request_id="r", session_id="s")


def arbitrary(kind: type[Attrs]) -> st.SearchStrategy[Attrs]:
    """Events of one kind, with any values in any of their fields."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **{name: VALUES[type_] for name, type_ in types.items()})


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
@settings(max_examples=50)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(kind: type[Attrs], data: st.DataObject) -> None:
    """Whatever an event holds, reading its line gives it back, and it is one line."""
    attrs = data.draw(arbitrary(kind))
    line = written(attrs)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert decode(line) == Line(
        ts=1.5, mono=2.5, seq=3, pid=4, event=kind.NAME, request_id="r", session_id="s", attrs=attrs
    )


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_every_event_fits_the_schema(kind: type[Attrs]) -> None:
    """What is written is what the exported schema promises."""
    jsonschema.validate(json.loads(written(kind())), json_schema())


@pytest.mark.parametrize("line", V1_LINES, ids=lambda line: json.loads(line)["event"])
def test_lines_of_version_1_stay_readable(line: bytes) -> None:
    """No attribute of a recorded line is lost on a later reader, and none changes its meaning."""
    decoded = decode(line)
    original = json.loads(line)
    assert decoded.attrs is not None
    assert decoded.event == original["event"]
    values = json.loads(msgspec.json.encode(decoded.attrs))
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(decoded.attrs)}
    for name, value in original["attrs"].items():
        assert values.get(name, defaults.get(name)) == value
    jsonschema.validate(original, json_schema())


def test_every_event_is_among_the_lines_of_version_1() -> None:
    """A new event is pinned by a line of its own."""
    assert {decode(line).event for line in V1_LINES} == set(EVENTS)


def test_exported_schema_is_current() -> None:
    """The file that other programs read says what the code says; `make schema` writes it."""
    exported = resources.files("mlxdeck.telemetry.schema") / f"schema-v{SCHEMA_VERSION}.json"
    current = json.loads(json.dumps(json_schema()))
    assert json.loads(exported.read_text(encoding="utf-8")) == current
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "line",
    [
        ENVELOPE | {"event": "tick", "attrs": {"mlx.active": "many"}},
        ENVELOPE | {"event": "tick"},
        {"event": "tick", "attrs": {}},
    ],
)
def test_schema_refuses_what_is_no_line(line: dict[str, Any]) -> None:
    """The schema is no rubber stamp."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, json_schema())


def test_default_values_are_not_written() -> None:
    """A line holds what is not obvious."""
    assert json.loads(written(Tick(active=2)))["attrs"] == {"mlx.active": 2}


def test_unknown_event_keeps_its_envelope() -> None:
    """A reader counts what it doesn't know, and goes on."""
    line = decode(raw(event="cache.evict", request_id="r", attrs={"x": [1]}))
    assert (line.event, line.request_id, line.attrs) == ("cache.evict", "r", None)


def test_unknown_attributes_are_ignored() -> None:
    """Later versions may add attributes, and fields beside them."""
    line = decode(raw(attrs={"mlx.active": 1, "mlx.new": {"deep": []}}, later=1))
    assert line.attrs == Tick(active=1)


def test_missing_attributes_have_defaults() -> None:
    """Earlier versions did not write every attribute."""
    assert decode(raw(event="request.end")).attrs == RequestEnd()


def test_newer_schema_is_refused_by_name() -> None:
    """A line of another version says so, with both numbers."""
    with pytest.raises(NewerSchema, match=r"schema version 2, .* up to 1"):
        decode(raw(v=2, event="whatever", attrs={"mlx.active": "many"}))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"no json",
        b"[]",
        raw()[:-5],
        raw() + b"{}",
        raw(seq="x"),
        raw(attrs={"mlx.active": "many"}),
        raw(attrs=[]),
        json.dumps(ENVELOPE).encode(),
        b'{"v":1,"event":"\xff"}',
        b'{"v":1,"ts":1,"mono":1,"seq":1,"pid":1,"event":"request.end","attrs":{"outcome":"\xff"}}',
    ],
)
def test_anything_else_is_unreadable(line: bytes) -> None:
    """Whatever a line holds, there is one exception to expect."""
    with pytest.raises(Unreadable):
        decode(line)


@given(line=st.binary())
def test_no_bytes_break_the_reader(line: bytes) -> None:
    """Damage on the disk is never more than an unreadable line."""
    with pytest.raises(Unreadable):
        decode(line)
