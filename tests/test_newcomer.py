"""The commands that pages show are found, and those that are not run are still there."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tests.newcomer import NOT_RUN, SCREENS, Command, commands, filled

ROOT = Path(__file__).parents[1]
PAGE = """Text

    mlxdeck replay FILE [ID]    # a comment

    port = 1

    curl http://h/#part \\
      -d '{"a": 1}'
    mlxdeck doctor
"""


def all_commands() -> list[Command]:
    """Each command once, of the page that shows it first."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found: dict[str, Command] = {}
    for page in pages:
        for each in commands(page.relative_to(ROOT).as_posix(), page.read_text("utf-8")):
            found.setdefault(each.text, each)
    return list(found.values())


def test_commands_are_found_and_filled() -> None:
    """Without comments, with continued lines joined; settings are none."""
    found = [each.text for each in commands("page", PAGE)]
    assert found == [
        "mlxdeck replay FILE [ID]",
        """curl http://h/#part -d '{"a": 1}'""",
        "mlxdeck doctor",
    ]
    assert filled(found[0], {"FILE": "a.jsonl"}) == "mlxdeck replay a.jsonl"


def test_no_reason_is_left_over() -> None:
    """Each pattern fits a command of a page, and so does each screen."""
    texts = [each.text for each in all_commands()]
    assert [each for each in NOT_RUN if not any(fnmatch(text, each) for text in texts)] == []
    assert set(SCREENS) <= set(texts)
    assert len(texts) > 30
