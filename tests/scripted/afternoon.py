"""A quarter of an hour of the real Claude Code in three folders, at the pace of a model of 30B.

The real server records it; only the model's words stand in a script, see `shop`. People think
between tasks, start agents, hang up, and begin the next day's conversation with another line in
front. A program asks the same thing again and again. It breaks off in the middle of work, so that
its last moment shows requests that run.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.e2e.client import claude
from tests.real import Server, serving
from tests.scripted import shop

LENGTH_S = 870.0
"""So that a window of 15 minutes holds all of it."""
READ_PER_S, WRITTEN_PER_S = 2_000, 60
"""Tokens a second, about what a model with 3B active parameters does on a large Mac."""
PAUSE_S = (4.0, 18.0)
"""How long somebody thinks."""
PROGRAM_S = 47.0
"""How often the program asks."""
MIN_TIMEOUT_S = 5.0
TOOLS = (
    "Read Edit Write Agent Task Bash(ls:*) Bash(wc:*) Bash(grep:*) Bash(git:*) Bash(python3:*) "
    "Bash(node:*)"
)
GIT = ("git", "-c", "user.name=me", "-c", "user.email=me@example.org")

Said = tuple[str, ...]
"""What is said, and flags of the client."""


@dataclass(slots=True)
class Person:
    """Somebody with a folder, and a home of their own."""

    folder: Path
    home: Path
    ends_s: float
    chance: random.Random
    reports: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """A project under version control."""
        shop.write_project(self.folder)
        self.home.mkdir()
        (self.home / ".gitconfig").write_text("[user]\nname = me\nemail = me@example.org\n")
        for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "Begin")):
            subprocess.run([*GIT, *command], cwd=self.folder, check=True)

    @property
    def left_s(self) -> float:
        """How long the afternoon goes on."""
        return self.ends_s - time.monotonic()

    def say(self, url: str, text: str, *flags: str, leaves_after_s: float = 600.0) -> None:
        """Have the client work at a task, until it is done or the afternoon is over."""
        until_s = max(MIN_TIMEOUT_S, min(leaves_after_s, self.left_s + MIN_TIMEOUT_S))
        arguments = ("-p", text, "--allowedTools", TOOLS, *flags)
        try:
            report = claude(
                url,
                *arguments,
                cwd=self.folder,
                home=self.home,
                max_output_tokens=8000,
                timeout_s=until_s,
            )
        except subprocess.TimeoutExpired:
            report = {"result": "its user has left"}
        self.reports.append(str(report["result"]))

    def work(self, url: str, begins_s: float, tasks: Iterable[Said]) -> None:
        """One task after the other. A text that begins with + goes on with a conversation."""
        time.sleep(begins_s)
        for text, *flags in tasks:
            if self.left_s < 0:
                return
            leaves_s = 9.0 if text == shop.HURRY else 600.0
            again = ("-c",) if text.startswith("+") else ()
            self.say(url, text.removeprefix("+"), *again, *flags, leaves_after_s=leaves_s)
            time.sleep(max(0.0, min(self.chance.uniform(*PAUSE_S), self.left_s)))


def mixed(mends: Sequence[str], searches: Sequence[str], others: Sequence[Said]) -> Iterator[Said]:
    """What one person asks for: mistakes in turn, now and then a search or something else."""
    rest = iter(others)
    for number in range(len(mends)):
        yield ("+" * (number % 3 != 0) + mends[number],)
        if number % 3 == 1:
            yield (searches[number // 3 % len(searches)],)
        if number % 3 == 2:
            yield ("+" + shop.COMMIT,)
            yield from islice(rest, 1)


def program(url: str, ends_s: float) -> None:
    """Asks for a line of the changelog and a commit message, by the other API."""
    while time.monotonic() + 3 < ends_s:
        for text in (shop.CHANGES, shop.MESSAGE):
            messages = [
                {"role": "system", "content": "You write one line. " * 8},
                {"role": "user", "content": text},
            ]
            body = {"model": "local", "max_tokens": 60, "temperature": 0, "messages": messages}
            request = urllib.request.Request(
                f"{url}/v1/chat/completions",
                json.dumps(body).encode(),
                {"content-type": "application/json", "user-agent": "changelog/1.0"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()
        time.sleep(max(0.0, min(PROGRAM_S, ends_s - time.monotonic())))


def plans() -> list[tuple[float, Iterator[Said]]]:
    """When each of three people begins, and with what."""
    mends, searches = list(shop.mends()), list(shop.SEARCHES)
    tuesday = ("--append-system-prompt", "Today is Tuesday.")
    fewer = ("--disallowedTools", "WebSearch")
    api = mixed(mends[::3], searches, ((shop.TESTS,), (shop.REVIEW,), (mends[46], *tuesday)))
    web = mixed(mends[1::3], searches[1:], ((shop.HURRY,), (shop.TESTS, *fewer), (shop.REVIEW,)))
    docs = mixed(mends[2::3], searches[2:], ((shop.REVIEW,), (shop.HURRY,), (shop.TESTS,)))
    return [(0.0, api), (14.0, web), (31.0, docs)]


def people(server: Server, folder: Path, length_s: float) -> list[str]:
    """All of them, until it is over; returns what the client reported of each task."""
    ends_s = time.monotonic() + length_s
    own = []
    for name in ("shop-api", "shop-web", "shop-docs"):
        person = Person(folder / name, folder / f"{name}-home", ends_s, random.Random(name))
        person.folder.mkdir()
        person.prepare()
        own.append(person)
    with ThreadPoolExecutor(len(own) + 1) as pool:
        works = [
            pool.submit(person.work, server.url, begins_s, tasks)
            for person, (begins_s, tasks) in zip(own, plans(), strict=True)
        ]
        works.append(pool.submit(program, server.url, ends_s))
        time.sleep(max(0.0, ends_s - time.monotonic()))
        server.process.kill()
        for work in works:
            work.result()
    return [report for person in own for report in person.reports]


def record(folder: Path, length_s: float = LENGTH_S) -> list[Path]:
    """The afternoon in a folder; returns the files of telemetry."""
    home = folder / "server"
    flags = ("--model", "scripted-30b", "--tool-format", "json_tags", "--capture", "full")
    variables = {
        "SCRIPTED_SCRIPT": "shop",
        "SCRIPTED_TOKENS_PER_S": f"{READ_PER_S} {WRITTEN_PER_S}",
    }
    with serving(
        *flags, "--max-batch", "3", home=home, program="tests.scripted", **variables
    ) as server:
        for report in people(server, folder, length_s):
            print(f"  {report[:110]!r}")
    return sorted((home / "telemetry").glob("*.jsonl"))
