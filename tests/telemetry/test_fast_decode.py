"""Reading lines only as far as needed: the same fields as in full, and nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from mlxdeck.telemetry.read import fast_decode
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t

SHORT = {
    t.RequestStart: fast_decode.StartAttrs,
    t.RequestEnd: fast_decode.EndAttrs,
    t.FirstToken: fast_decode.FirstTokenAttrs,
}
EVERY_EVENT = (Path(__file__).parent.parent / "data" / "v1.jsonl").read_bytes()


@pytest.mark.parametrize(("full", "short"), SHORT.items(), ids=lambda kind: kind.__name__)
def test_fields_are_those_of_the_event(full: type[t.Attrs], short: type[msgspec.Struct]) -> None:
    """By name, name in the line, and default."""
    known = {field.name: field for field in msgspec.structs.fields(full)}
    for field in msgspec.structs.fields(short):
        assert field.encode_name == known[field.name].encode_name
        assert field.default == known[field.name].default


@pytest.mark.parametrize("name", t.EVENTS)
def test_every_event_is_known(name: str) -> None:
    """A new one has to be listed, or a whole block of lines would be read one by one."""
    tags = {msgspec.inspect.type_info(kind).tag for kind in get_args(fast_decode.Skimmed)}  # type: ignore[attr-defined]
    assert name in tags


def test_a_block_is_what_its_lines_are() -> None:
    """Read at once or one by one, with where each begins."""
    fast = fast_decode.skim(EVERY_EVENT, 1000)
    slow = fast_decode._one_by_one(EVERY_EVENT, 1000)
    assert fast.lines == slow.lines and fast.offsets.tolist() == slow.offsets.tolist()
    assert {type(line) for line in fast.lines} | {fast_decode.Unknown} == set(
        get_args(fast_decode.Skimmed)
    )
    raw = EVERY_EVENT.split(b"\n")
    for line, offset, text in zip(fast.lines, fast.offsets.tolist(), raw, strict=False):
        assert EVERY_EVENT[offset - 1000 :].startswith(text)
        assert line.ts == codec.decode(text).ts
