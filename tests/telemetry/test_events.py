"""What an event is on disk stays readable: today's by tomorrow's readers, and the reverse."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.telemetry.schema.attributes import Amount, Limit, Seconds, Size, SmallCount, Tokens
from mlxdeck.telemetry.schema.codec import Line, NewerSchema, Unreadable, decode, encode
from mlxdeck.telemetry.schema.events import (
    EVENTS,
    Attrs,
    RequestEnd,
    Tick,
    ToolCall,
)
from mlxdeck.telemetry.schema.json_schema import json_schema
from tests.exported import texts

# Written by hand when version 1 was new. Lines may be added for new events, none may be changed.
V1_LINES = (Path(__file__).parent.parent / "data" / "v1.jsonl").read_bytes().splitlines()

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    Seconds: st.floats(-1e9, 1e9),
    Tokens: st.integers(0, 2**31 - 1),
    tuple[Tokens, ...]: st.lists(st.integers(0, 2**31 - 1)).map(tuple),
    SmallCount: st.integers(0, 2**15 - 1),
    Amount: st.integers(0, 2**63 - 1),
    Size: st.floats(0, 1e15),
    Limit: st.floats(0, allow_nan=False, allow_infinity=False),
}
_NUMBERS = (int, float, Seconds, Tokens, SmallCount, Amount, Size, Limit)
VALUES |= {kind | None: st.none() | VALUES[kind] for kind in (str, bool, *_NUMBERS)}

ENVELOPE: dict[str, Any] = {"v": 1, "ts": 1.5, "mono": 2.5, "seq": 3, "pid": 4}


def raw(**changes: Any) -> bytes:
    """A line as another program might write it."""
    return json.dumps(ENVELOPE | {"event": "tick", "attrs": {}} | changes).encode()


def written(attrs: Attrs) -> bytes:
    """An event as mlxdeck writes it."""
    return encode(attrs, ts=1.5, mono=2.5, seq=3, pid=4, request_id="r", session_id="s")


@functools.cache
def exported() -> jsonschema.Draft202012Validator:
    """The schema, read once."""
    return jsonschema.Draft202012Validator(json_schema())


def arbitrary(kind: type[Attrs]) -> st.SearchStrategy[Attrs]:
    """Events of one kind, with any values in any of their fields."""
    # A closed set is one for the schema, not for a reader.
    types = {
        field.name: getattr(field.type, "__origin__", field.type)
        if field.type not in VALUES
        else field.type
        for field in msgspec.structs.fields(kind)
    }
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
    exported().validate(json.loads(written(kind())))


@pytest.mark.parametrize("line", V1_LINES, ids=lambda line: json.loads(line)["event"])
def test_lines_of_version_1_stay_readable(line: bytes) -> None:
    """No attribute of a recorded line is lost on a later reader, and none changes its meaning."""
    decoded = decode(line)
    original = json.loads(line)
    assert decoded.attrs is not None
    assert decoded.event == original["event"]
    values = json.loads(msgspec.json.encode(decoded.attrs))
    usual = type(decoded.attrs)()
    defaults = {
        field.encode_name: getattr(usual, field.name)
        for field in msgspec.structs.fields(decoded.attrs)
    }
    for name, value in original["attrs"].items():
        assert values.get(name, defaults.get(name)) == value
    exported().validate(original)


def test_every_event_is_among_the_lines_of_version_1() -> None:
    """A new event is pinned by a line of its own."""
    assert {decode(line).event for line in V1_LINES} == set(EVENTS)


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_exported_files_are_current(path: Path) -> None:
    """The schema for other programs and its page: `make schema` writes them anew."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert path.read_text(encoding="utf-8") == texts()[path]


@pytest.mark.parametrize(
    "line",
    [
        ENVELOPE | {"event": "tick", "attrs": {"mlx.active": "many"}},
        ENVELOPE | {"event": "tick"},
        ENVELOPE | {"event": "tick", "attrs": []},
        {"event": "tick", "attrs": {}},
        ENVELOPE | {"v": 7, "event": "tick", "attrs": {}},
        ENVELOPE | {"event": "request.end", "attrs": {"outcome": "banana"}},
        ENVELOPE | {"event": "cache.lookup", "attrs": {"mlx.cache.result": "maybe"}},
    ],
)
def test_schema_refuses_what_is_no_line(line: dict[str, Any]) -> None:
    """The schema is no rubber stamp."""
    with pytest.raises(jsonschema.ValidationError):
        exported().validate(line)


def test_schema_takes_what_later_versions_may_add() -> None:
    """Events and attributes."""
    later = ENVELOPE | {"event": "cache.evict", "attrs": {"mlx.new": [1]}, "later": 1}
    exported().validate(later)
    exported().validate(later | {"event": "tick"})


def test_schema_says_what_each_field_is() -> None:
    """Of the envelope and of every event."""
    for definition in json_schema()["$defs"].values():
        for name, field in definition["properties"].items():
            assert len(field.get("description", "")) > 5, (definition["title"], name)


ALWAYS: dict[str, dict[str, Any]] = {
    "request.start": {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mlx"},
    "request.end": {
        **{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mlx"},
        **{"outcome": "ok", "http.response.status_code": 200, "mlx.tool_calls": 0},
    },
    "tool_call": {"mlx.tool.parse_ok": True},
    "cache.lookup": {"mlx.cache.result": "miss"},
    "error": {"retryable": False},
    "tick": {"mlx.active": 0, "mlx.errors_total": 0, "mlx.telemetry.dropped_total": 0},
}


@pytest.mark.parametrize("event", ALWAYS)
def test_what_is_usual_is_written_all_the_same(event: str) -> None:
    """Success is a value to ask for, so that a healthy file has the same columns as a bad one."""
    assert json.loads(written(EVENTS[event]()))["attrs"].items() >= ALWAYS[event].items()


def test_what_is_not_known_is_not_written() -> None:
    """0 is a figure, and absence is none."""
    written_attrs = json.loads(written(RequestEnd(cached_tokens=0)))["attrs"]
    assert written_attrs["gen_ai.usage.cache_read.input_tokens"] == 0
    unknown = {"gen_ai.usage.input_tokens", "gen_ai.server.time_to_first_token", "mlx.queue_s"}
    assert not written_attrs.keys() & unknown


def test_unknown_event_keeps_its_envelope() -> None:
    """A reader counts what it doesn't know, and goes on."""
    line = decode(raw(event="cache.evict", request_id="r", attrs={"x": [1]}))
    assert (line.event, line.request_id, line.attrs) == ("cache.evict", "r", None)


def test_unknown_attributes_are_ignored() -> None:
    """Later versions may add attributes, and fields beside them."""
    line = decode(raw(attrs={"mlx.active": 1, "mlx.new": {"deep": []}}, later=1))
    assert line.attrs == Tick(active=1)


def test_what_0_1_left_out_means_what_it_meant() -> None:
    """It wrote neither what was 0 nor what was usual; a time of 0 to no token was not known."""
    end = decode(raw(event="request.end", attrs={"gen_ai.usage.input_tokens": 7})).attrs
    assert isinstance(end, RequestEnd)
    assert (end.outcome, end.status, end.n_tool_calls) == ("ok", 200, 0)
    assert (end.input_tokens, end.cached_tokens, end.output_tokens) == (7, 0, 0)
    assert (end.queue_s, end.decode_s, end.ttft_s) == (0.0, 0.0, None)
    call = decode(raw(event="tool_call")).attrs
    assert isinstance(call, ToolCall) and call.parse_ok


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
