"""docs/questions.md: jq and DuckDB answer the same, from the files that the server writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "questions.md").read_text("utf-8")
_BLOCK = re.compile(r"(?m)(?<=\n\n)(?: {4}.*\n?)+")
VIEW = _BLOCK.findall(PAGE.split("\n## ")[0])[0]
QUESTIONS = {
    section.partition("\n")[0]: _BLOCK.findall(section) for section in PAGE.split("\n## ")[1:]
}
EMPTY = ("What is it doing right now?",)
"""Nothing runs where a recording ends in good order."""


@pytest.fixture(scope="module", params=["recording", "captured", "day", "cut"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording; `cut` ends while requests run."""
    data = ROOT / "tests" / "data"
    if request.param != "cut":
        return data / f"{request.param}.jsonl"
    lines = (data / "recording.jsonl").read_bytes().splitlines(keepends=True)
    ends = [n for n, line in enumerate(lines) if b'"request.end"' in line]
    path = tmp_path_factory.mktemp("cut") / "cut.jsonl"
    path.write_bytes(b"".join(lines[: ends[10]]))
    return path


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_tools_give_the_same_answer(question: str, stream: Path) -> None:
    """Row for row; a day of Claude Code has rows for each."""
    jq, sql = QUESTIONS[question]
    found = _duckdb(sql, stream)
    assert found or stream.stem != "day" or question in EMPTY
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    assert [_close(row) for row in _jq(jq, stream)] == found


def test_a_stream_that_is_cut_has_open_requests(stream: Path) -> None:
    """So that the question about them is tried."""
    if stream.stem == "cut":
        assert _duckdb(QUESTIONS[EMPTY[0]][1], stream)


def _jq(command: str, path: Path) -> list[list[Any]]:
    ran = subprocess.run(
        ["sh", "-c", command.replace("FILE", f'"{path}"')],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _duckdb(query: str, path: Path) -> list[list[Any]]:
    with duckdb.connect() as connection:
        connection.execute(VIEW.replace("FILE", str(path)))
        return [_close(row) for row in connection.execute(query).fetchall()]


def _close(row: Any) -> list[Any]:
    """Sums of floats depend on their order in the last digits."""
    return [round(value, 6) if isinstance(value, float) else value for value in row]
