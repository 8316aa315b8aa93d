"""Reading lines only as far as needed: the same fields as in full, and nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from mlxdeck.telemetry.read import fast_decode
from mlxdeck.telemetry.schema import codec
from mlxdeck.telemetry.schema import events as t
from mlxdeck.telemetry.schema.figures import FIGURES, Figure

EVERY_EVENT = (Path(__file__).parent.parent / "data" / "v1.jsonl").read_bytes()


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_each_figure_is_an_attribute_of_its_event(figure: Figure) -> None:
    """The table names what is really written, and the unit that the name promises."""
    told = {field.encode_name for field in msgspec.structs.fields(figure.event)}
    assert figure.attribute in told
    assert figure.title and figure.about
    assert figure.name.endswith("_s") == (figure.unit == "s")
    assert figure.name.endswith("_tokens") == (figure.unit == "tokens")


def test_progress_is_decoded_as_its_event_says() -> None:
    """By name and name in the line."""
    known = {field.name: field.encode_name for field in msgspec.structs.fields(t.RequestProgress)}
    for field in msgspec.structs.fields(fast_decode.ProgressAttrs):
        assert field.encode_name == known[field.name]


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
