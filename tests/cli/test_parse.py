"""`mlxdeck parse`: what comes of a text, and how."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.toolcalls.formats import FORMATS
from tests.server.toolcalls.cases import CASES, TOOLS


def parsed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What the command prints."""
    assert main(["parse", *args]) == 0
    return capsys.readouterr().out


def test_text_thinking_and_calls_are_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From stdin, with any tool allowed."""
    text = (
        "<think>hm</think>I read.\n<tool_call>{'name': 'Read', 'arguments': {'p': 1}}</tool_call>"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert parsed(capsys).splitlines() == [
        'thinking    "hm"',
        'text        "I read.\\n"',
        'call        Read {"p": 1}  (json_tags, mended, fits its schema)',
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first case comes out as a call, and `--explain` says by which road."""
    file, tools = tmp_path / "answer.txt", tmp_path / "tools.json"
    file.write_text(CASES[name][0][0])
    listed = [{"name": tool.name, "input_schema": tool.input_schema} for tool in TOOLS]
    tools.write_text(json.dumps({"tools": listed}))
    shown = parsed(capsys, str(file), "--format", name, "--tools", str(tools), "--explain")
    assert "call        Read" in shown
    assert "how:" in shown and f"begins a call in format {name}" in shown


def test_what_is_no_call_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the line of its own that counts in telemetry too."""
    file = tmp_path / "answer.txt"
    file.write_text("<tool_call>oops</tool_call>")
    assert "not a call  a call was expected" in parsed(capsys, str(file))


def test_bad_input_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback."""
    file = tmp_path / "answer.txt"
    file.write_text("x")
    assert main(["parse", str(file), "--format", "nope"]) == 2
    assert "there are: " in capsys.readouterr().err
    assert main(["parse", str(tmp_path / "none")]) == 2
    assert main(["parse", str(file), "--tools", str(file)]) == 2
    assert "no JSON" in capsys.readouterr().err
