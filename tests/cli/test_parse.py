"""`mlxdeck parse`: what comes of a text, and how."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mlxdeck.cli.main import main
from mlxdeck.server.backends.local.toolcalls import explain
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from tests.server.backends.local.toolcalls.cases import CASES, TOOLS


def parsed(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """What the command prints."""
    assert main(["parse", *args]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_thinking_and_calls_are_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From stdin, with any tool allowed, in whatever format it is."""
    call = "<tool_call>{'name': 'Read', 'arguments': {'p': 1}}</tool_call>"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"<think>hm</think>I read.\n{call}"))
    made = {"format": "json_tags", "repaired": True, "schema_valid": True}
    assert parsed(capsys) == {
        "format": "json_tags",
        "blocks": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "I read.\n"},
            {"type": "tool_use", "name": "Read", "input": {"p": 1}, **made},
        ],
        "not_calls": [],
    }


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("named", [True, False])
def test_every_format_can_be_named_or_found(
    name: str, named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first case comes out as a call, and `--explain` says by which road."""
    file, tools = tmp_path / "answer.txt", tmp_path / "tools.json"
    file.write_text(CASES[name][0][0])
    listed = [{"name": tool.name, "input_schema": tool.input_schema} for tool in TOOLS]
    tools.write_text(json.dumps({"tools": listed}))
    how = ["--format", name] if named else []
    shown = parsed(capsys, str(file), *how, "--tools", str(tools), "--explain")
    (call,) = shown["blocks"]
    assert (call["name"], call["input"]) == ("Read", {"file_path": "a.py"})
    assert any("begins a call" in note["what"] for note in shown["how"])
    assert any(note["what"] == "calls read: 1" for note in shown["how"])
    assert not named or shown["format"] == name


def test_what_is_no_call_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it counts in telemetry too."""
    file = tmp_path / "answer.txt"
    file.write_text("<tool_call>oops</tool_call>")
    assert parsed(capsys, str(file), "--format", "json_tags")["not_calls"] == [
        "a call was expected"
    ]


def test_bad_input_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback."""
    file = tmp_path / "answer.txt"
    file.write_text("x")
    assert main(["parse", str(file), "--format", "nope"]) == 2
    assert "there are: " in capsys.readouterr().err
    assert main(["parse", str(tmp_path / "none")]) == 2
    assert main(["parse", str(file), "--tools", str(file)]) == 2
    assert "no JSON" in capsys.readouterr().err


def test_only_formats_whose_markers_are_there_are_tried() -> None:
    """One stands for all those that would read the text alike."""
    tried = {form.name for form in explain._forms("auto", "<tool_call>" * 9)}
    assert {"json_tags", "qwen3_coder", "glm", "granite", "harmony"} < tried
    assert len(tried) == 6


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ('{"file_path": "a.py",}', "a trailing comma"),
        ("{'file_path': \"a.py\"}", "single quotes"),
        ('{file_path: "a.py"}', "a name without quotes"),
        ('{"file_path": "a.py", "limit": "3"}', "a value of another type than the schema's"),
        ('{"file_path": "a\nb.py"}', "a control character that was not escaped"),
        ('{"file_path": "C:\\new\\a.py"}', "single backslashes in a path"),
        ('{"file_path": "a.py"', "a call that was not closed"),
        ('{"file_path": "a.py"}', ""),
    ],
)
def test_explain_tells_what_was_repaired(
    written: str, repaired: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each repair in words, and none where there was none."""
    file, tools = tmp_path / "answer.txt", tmp_path / "tools.json"
    file.write_text(f'<tool_call>{{"name": "Read", "arguments": {written}}}</tool_call>')
    kinds = {"file_path": {"type": "string"}, "limit": {"type": "integer"}}
    schema = {"type": "object", "properties": kinds}
    tools.write_text(json.dumps([{"name": "Read", "input_schema": schema}]))
    shown = parsed(capsys, str(file), "--tools", str(tools), "--explain")
    told = [note["what"] for note in shown["how"] if "repaired" in note["what"]]
    assert told == ([f"repaired: {repaired}"] if repaired else [])
    assert shown["blocks"][0]["repaired"] is bool(repaired)
