"""The list of tool calls: what each asked, and what came of it."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.outputs import inspect
from mlxdeck.tui.present.call_results import calls_table
from mlxdeck.tui.widgets import tool_calls
from mlxdeck.tui.widgets.tool_calls import ToolCallList
from tests.streams import NAME, START_TS, Stream, read_streams
from tests.telemetry.test_tool_results import lines, stored


@pytest.mark.parametrize("width", [24, 40, 60, 90, 140])
def test_a_result_is_shown_in_every_width(width: int) -> None:
    """A failure by its mark and its words, as soon as it has come; each line fits."""
    calls = ToolCallList(stored([b"".join(lines())]))
    for as_of_ts, marks, has_come in ((START_TS + 3, "✓✓", False), (START_TS + 9, "✓✗", True)):
        calls.as_of_ts = as_of_ts
        shown = ["".join(text for text, _ in calls.cells(item, width)) for item in (0, 1)]
        assert all(len(text) <= width for text in shown)
        assert "".join(text[9] for text in shown) == marks
        assert ("exit 1." in shown[1]) == (has_come and width > 24)
        assert ("1.50s" in shown[0]) == (has_come and width >= 60)
    calls.show(np.arange(2), 1)
    assert calls.header(width)[0][0].startswith("time ")
    assert len(calls.header(width)[0][0]) <= width


BAD = {
    "✗ unreadable": {"parse_ok": False, "schema_valid": False, "parse_error": "no JSON"},
    "✗ not valid": {"schema_valid": False, "constrained": True, "repaired": True},
    "± repaired": {"schema_valid": True, "repaired": True, "unconstrained": "too deep"},
    "▲ unconstrained": {"schema_valid": True, "unconstrained": "too deep"},
}


@pytest.mark.parametrize("told", BAD)
def test_a_call_that_is_not_as_it_should_be_does_not_look_valid(told: str) -> None:
    """In the list, in a request's page and on standard output; by a sign, a word and the reason."""
    call = t.ToolCall(name="Read", call_id="a", arguments='{"path": 3}', **BAD[told])  # type: ignore[arg-type]
    stream = Stream()
    ended = t.RequestEnd(n_tool_calls=1)
    store = stored([b"".join(stream.line(each, 1, "req_1") for each in (call, ended))])
    listed = "".join(text for text, _ in ToolCallList(store).cells(0, 140))
    page, printed = io.StringIO(), io.StringIO()
    Console(file=page, width=100).print(calls_table([call], {}))
    told_json = {**msgspec.structs.asdict(call), "arguments": {"path": 3}, "result": None}
    Console(file=printed, width=100).print(inspect._call(told_json))
    for shown in (listed, page.getvalue(), printed.getvalue()):
        assert told in shown and "✓" not in shown
    for shown in (page.getvalue(), printed.getvalue()):
        assert ("unconstrained: too deep" in shown) == bool(call.unconstrained)
    narrow = "".join(text for text, _ in ToolCallList(store).cells(0, 24))
    assert narrow[9] == told[0]


def test_a_result_without_its_text_is_printed(tmp_path: Path) -> None:
    """Only `--capture full` keeps the text; its size is told, and how to have it."""
    path, out = tmp_path / NAME, io.StringIO()
    path.write_bytes(b"".join(lines()))
    inspect.show(detail(read_streams([path]), 0), out)
    assert "kept with --capture full" in out.getvalue()


def test_an_empty_list_says_why() -> None:
    """Also where there are calls, but none yet at a replay's moment, or none that matches."""
    calls = ToolCallList(stored([b"".join(lines())]))
    assert calls.header(40) == [("no tool has been called yet", "muted")]
    calls.scope = "that match"
    assert calls.header(40) == [("no tool call matches", "muted")]
    assert len(calls.header(12)[0][0]) <= 12


@pytest.mark.parametrize(
    ("arguments", "room", "shown"),
    [
        ('{"file_path": "/home/me/shop/deploy.yaml", "limit": 3}', 14, "…p/deploy.yaml"),
        ('{"command": "git commit -qm \\"x\\""}', 30, 'git commit -qm "x"'),
        ('{"command": "git commit"}', 60, '{"command": "git commit"}'),
        ('{"n": 3}', 5, '{"n": 3}'),
        ("not JSON", 5, "not JSON"),
        ('{"path": "/a/b"}', 1, "/a/b"),
    ],
)
def test_a_narrow_list_shows_the_first_argument(arguments: str, room: int, shown: str) -> None:
    """Without its JSON, and of a path the end; it never is longer than what it was."""
    assert tool_calls._brief(arguments, room) == shown
