"""Paths in the pages for contributors lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md", "docs/decisions.md")
PACKAGES = (
    "cli",
    "server",
    "settings",
    "telemetry",
    "tui",
    "tests",
    "docs",
    "screenshots",
    ".ci",
    ".pkg",
)
SUFFIXES = ("py", "md", "toml", "json", "jsonl", "lock", "tcss")
OF_USERS = {"/mlxdeck.toml"}
"""Files that a page may name and that users write."""
_NO_PATH = re.compile(r"[\s(){}=<>]|^/|^\.venv|^--|^\w+://")


def everything() -> set[str]:
    """All files and folders of the repository, each with a slash in front."""
    found = {f"/{path.name}" for path in ROOT.iterdir()} | OF_USERS
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if "__pycache__" not in path.parts:
                found.add(f"/{path.relative_to(ROOT)}")
    return found


def named(page: str) -> Iterator[str]:
    """Paths in a page: in backquotes, and in the tree of folders."""
    # The names of another version are not here any more.
    page = re.sub(r"(?ms)^## Old names$.*?(?=^## |\Z)", "", page)
    for text in re.findall(r"`([^`\n]+)`", page):
        if is_path(text):
            yield text
    for line in re.findall(r"(?m)^ {4,}([\w.]\S*(?:, \S+)*)  ", page):
        yield from filter(is_path, line.split(", "))


def is_path(text: str) -> bool:
    """Whether it is one, and no command, value or route."""
    if _NO_PATH.search(text):
        return False
    return "/" in text or text.rsplit(".", 1)[-1] in SUFFIXES


def leads_nowhere(text: str, known: set[str]) -> bool:
    """Whether nothing is called like that, from any folder on."""
    wanted = text.rstrip("/")
    return not any(fnmatch(path, f"*/{wanted}") or f"/{wanted}" == path for path in known)


@pytest.mark.parametrize("name", PAGES)
def test_every_path_of_a_page_exists(name: str) -> None:
    """A module that moves takes its mentions along."""
    known = everything()
    paths = set(named((ROOT / name).read_text(encoding="utf-8")))
    assert {path for path in paths if leads_nowhere(path, known)} == set()
    assert paths, "none was found"


def test_a_path_that_is_gone_is_found() -> None:
    """In a sentence, a table or the tree; a command or a route is none."""
    page = """
    server/
      gone.py, app.py          routes
      auth.py                  keys

See `tests/none.py`, `no_module.py`, `tui/app.py`, `make test`, `/v1/cache`, `a.b` and `server/`.

## Old names

`server/messages.py`
"""
    known = everything()
    paths = [path for path in named(page) if leads_nowhere(path, known)]
    assert paths == ["tests/none.py", "no_module.py", "gone.py"]
