"""What others wrote is text: no escape sequence reaches the terminal, no markup is read."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.analyze.request_detail import detail
from mlxdeck.telemetry.analyze.session_summary import read
from mlxdeck.telemetry.schema import events as t
from mlxdeck.tui.app import Dashboard
from mlxdeck.tui.outputs import inspect
from tests.streams import NAME, START_TS, Stream
from tests.tui.running import Running

EVIL = "see [/INST] [red]list[int] \x1b[2J\x1b]52;c;aGk=\x07\x9b5m\u202e\u2066\u2028\r"
SHOWN = "see [/INST] [red]list[int]"


def written(path: Path) -> Path:
    """Two requests in which every text that a client or a model may choose is that one."""
    stream = Stream()
    lines = [stream.header()]
    for name in (f"req_1{EVIL}", "req_2"):
        start = t.RequestStart(
            model=EVIL,
            tool_names=(EVIL,),
            forced_tool=EVIL,
            stop_sequences=(EVIL,),
            last_user_text=EVIL,
            message_hashes=(f"h_{name[:5]}",),
        )
        said = t.Content(
            kind="message",
            role="user",
            hash=f"h_{name[:5]}",
            content=json.dumps([{"type": "text", "text": EVIL}]),
        )
        call = t.ToolCall(name=EVIL, arguments=EVIL, call_id="c", parser=EVIL)
        error = t.Error(error_type=EVIL, phase="engine", message=EVIL)
        end = t.RequestEnd(outcome="error", error_type=EVIL, status=500, finish_reasons=(EVIL,))
        for n, attrs in enumerate((start, said, call, error, end)):
            lines.append(stream.line(attrs, 10 + n / 10, name, f"session{EVIL}"))
    path.write_bytes(b"".join(lines))
    return path


async def test_every_screen_shows_it_as_text(tmp_path: Path) -> None:
    """Dashboard, request, sessions, comparison, notices and palette."""
    path = written(tmp_path / NAME)
    app = Dashboard([path], clock=lambda: START_TS + 20)
    async with app.run_test(size=(160, 60)) as pilot:
        run = Running(app, pilot, path)
        await run.until(lambda: app.store.n == 2)
        for keys in (("6",), ("enter",), ("c",), ("escape", "o"), ("escape", "s"), ("escape",)):
            await run.press(*keys)
            assert not {ch for ch in run.text if not ch.isprintable()} - {"\n"}, keys
            assert SHOWN[:9] in run.text or keys[-1] == "escape", keys
        app.filter_by(f'text:"{SHOWN}"')
        await run.press("slash", "ctrl+s", *"it", "enter", "escape", "ctrl+p")
        assert app.context.ways.kept["it"] == f'text:"{SHOWN}"'


def test_inspect_prints_it_as_text(tmp_path: Path) -> None:
    """On a terminal as well as in a pipe."""
    out = io.StringIO()
    inspect.show(detail(read([written(tmp_path / NAME)]), 0), out)
    assert SHOWN in out.getvalue()
    assert not {ch for ch in out.getvalue() if not ch.isprintable()} - {"\n"}


@pytest.mark.parametrize("name", ["[/x]", "[red]"])
async def test_a_place_may_have_any_name(tmp_path: Path, name: str) -> None:
    """It is told as it is, once the screen is drawn."""
    app = Dashboard([tmp_path / name], clock=lambda: START_TS)
    async with app.run_test(size=(160, 40)) as pilot:
        run = Running(app, pilot, tmp_path)
        await run.until(lambda: name in run.text)


@pytest.mark.parametrize("how", ["--json", "--curl", "--text"])
def test_commands_print_no_control_character(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text they are left out; as JSON and in a command they are escapes, and nothing is lost."""
    path = written(tmp_path / NAME)
    assert main(["inspect", str(path), "req_2", *([] if how == "--text" else [how])]) == 0
    out = capsys.readouterr().out
    assert SHOWN in out and not {ch for ch in out if not ch.isprintable()} - {"\n"}
    if how == "--json":
        assert json.loads(out)["request"]["model"] == EVIL
    if how == "--curl":
        sent = json.loads(shlex.split(out)[-1])
        assert sent["messages"][0]["content"][0]["text"] == EVIL
