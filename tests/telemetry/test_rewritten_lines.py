"""Recordings that went through other programs, such as jq, say the same as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from mlxdeck.telemetry.read.content_search import Search, UserSearch
from mlxdeck.telemetry.read.prompt_paths import traffic_of

DATA = Path(__file__).parents[1] / "data"
WRITERS: dict[str, Callable[[object], str]] = {
    "blanks": json.dumps,
    "sorted keys": lambda value: json.dumps(value, sort_keys=True, separators=(",", ":")),
    "both": lambda value: json.dumps(value, sort_keys=True),
}


@pytest.fixture(params=WRITERS)
def rewritten(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recording again as another program would."""

    def write(name: str) -> Path:
        path = tmp_path / name
        told = [json.loads(line) for line in (DATA / name).read_bytes().splitlines()]
        path.write_text("".join(f"{WRITERS[request.param](each)}\n" for each in told))
        return path

    return write


def test_prompts_and_servers_are_the_same(rewritten: Callable[[str], Path]) -> None:
    """What `why` plays."""
    path = rewritten("recording.jsonl")
    again, first = traffic_of([path]), traffic_of([DATA / path.name])
    assert again.prompts
    assert again == first


@pytest.mark.parametrize("kind", [Search, UserSearch])
def test_searches_find_the_same(
    rewritten: Callable[[str], Path], kind: Callable[[str], Search]
) -> None:
    """In what was captured, and in the user's own words."""
    path = rewritten("captured.jsonl")
    found = [kind("the").look([each])[0] for each in (path, DATA / path.name)]
    assert found[0] == found[1] != set()


@pytest.mark.parametrize("command", [("report", "--json"), ("stats", "--json"), ("why", "--json")])
def test_commands_print_the_same(
    rewritten: Callable[[str], Path],
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To the last figure."""
    path = rewritten("recording.jsonl")
    printed = []
    for each in (path, DATA / path.name):
        assert main([command[0], str(each), *command[1:]]) == 0
        printed.append(capsys.readouterr().out.replace(str(each), "FILE"))
    assert printed[0] == printed[1]
