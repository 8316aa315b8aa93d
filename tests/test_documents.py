"""What pages name exists: paths, links, commands, flags, settings and targets."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mlxdeck.cli import main
from mlxdeck.server.config.settings import Settings
from mlxdeck.settings.declaration import declared
from mlxdeck.settings.sources import ENV_CONFIG, ENV_HOME, variable
from mlxdeck.tui.state.dashboard_settings import DashboardSettings
from tests.e2e import npm_clients

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


def test_the_page_of_clients_names_what_is_run() -> None:
    """Clients from npm and both SDKs, each in the version that the tests install."""
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    sdks = dict(re.findall(r"^(anthropic|openai)==(\S+)", lock, re.MULTILINE))
    tried = {
        "Claude Code": npm_clients.CLAUDE_CODE.version,
        "Codex": npm_clients.CODEX.version,
        "opencode": npm_clients.OPENCODE.version,
        "Continue (`cn`)": npm_clients.CONTINUE.version,
        "Anthropic SDK": sdks["anthropic"],
        "OpenAI SDK": sdks["openai"],
    }
    rows = re.findall(r"^\| ([^|]+) \| (\d[^|]*) \|", page, re.MULTILINE)
    assert set(rows) == set(tried.items())


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


USER_PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
USER_PAGES = ["README.md", "CONTRIBUTING.md", *USER_PAGES]
OTHER_FLAGS = {"--continue", "--bare", "--tools", "--system-prompt", "--print"}
"""Flags of clients that pages show."""
OTHER_VARIABLES = {ENV_CONFIG, ENV_HOME}


@functools.cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (commands,) = (
        action
        for action in main.build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(commands.choices)


def code(page: str) -> Iterator[str]:
    """Lines of code in a page: those of blocks, and what is in backquotes."""
    for line in page.splitlines():
        if line.startswith("    ") and not line.lstrip().startswith(("-", "|")):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(page: str) -> Iterator[list[str]]:
    """The commands of mlxdeck in a page, as words, up to what belongs to another program."""
    for line in code(page):
        for found in re.finditer(
            r"(?:^|[\s;(/\"])mlxdeck ([a-z]+\b[^#|>)\"]*)", f" {line.partition(' #')[0]}"
        ):
            yield re.split(r" -- | --$", found[1].strip())[0].split()


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """All flags of a command, also of its own commands."""
    found = {flag for action in parser._actions for flag in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {flag for each in action.choices.values() for flag in flags_of(each)}
    return found


@pytest.mark.parametrize("name", USER_PAGES)
def test_every_command_and_flag_of_a_page_exists(name: str) -> None:
    """A flag beside a command is one of that command; any other is one of some command."""
    page, known = (ROOT / name).read_text(encoding="utf-8"), parsers()
    for command, *words in commands(page):
        assert command in known, f"mlxdeck {command}"
        named = {word.split("=")[0].rstrip(".,;:") for word in words if word.startswith("--")}
        assert named <= flags_of(known[command]), f"mlxdeck {command} {' '.join(words)}"
    every = {flag for parser in known.values() for flag in flags_of(parser)} | OTHER_FLAGS
    alone = {flag for line in code(page) for flag in re.findall(r"^--[a-z][a-z0-9-]+", line)}
    assert alone <= every


@pytest.mark.parametrize("name", USER_PAGES)
def test_every_setting_and_target_of_a_page_exists(name: str) -> None:
    """Variables, keys of mlxdeck.toml, and targets of make."""
    page = (ROOT / name).read_text(encoding="utf-8")
    settings = declared(Settings, DashboardSettings)
    variables = {variable(each) for each in settings} | OTHER_VARIABLES
    used = set(re.findall(r"MLXDECK_[A-Z_]+\b", page))
    assert {each for each in used if not each.startswith("MLXDECK_TEST")} <= variables
    targets = set(re.findall(r"(?m)^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8")))
    asked = {found for line in code(page) for found in re.findall(r"\bmake ([a-z0-9]+)\b", line)}
    assert asked <= targets


@pytest.mark.parametrize("name", USER_PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    """Pages, pictures and headings of this repository; other addresses are not asked."""
    page = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        if re.match(r"\w+:", target):
            continue
        path, _, heading = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        if heading:
            titles = re.findall(r"(?m)^#+ (.+)$", place.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert heading in anchors, target


def test_a_command_that_is_gone_is_found() -> None:
    """In a block, in backquotes, after another word; what follows -- belongs to the client."""
    page = """
    mlxdeck claude --port 1 -- --bare -p x   # starts
    eval "$(mlxdeck env)"

Text with `mlxdeck gone --now` and mlxdeck outside of code, and `.venv/bin/mlxdeck serve`.
"""
    found = [["claude", "--port", "1"], ["env"], ["gone", "--now"], ["serve"]]
    assert list(commands(page)) == found
