"""A day of the real Claude Code against scripted answers, as the real server records it.

Servers come and go as they do in a day: one is killed, one is too small, one fails, the last runs
another model. Before all of them stand people who work in three folders, most of them through
agents that start other agents.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.client import claude
from tests.e2e.proxy import proxy
from tests.real import Server, serving
from tests.scripted.plans import write_project

PROGRAM = "tests.scripted"
TOOLS = "Read Edit Write Bash(ls:*) Bash(wc:*) Agent Task"
SMALL = ("--bare", "--tools", "Read", "--system-prompt", "You answer in one sentence.")
PAUSES_S = (0.2, 2.0)
"""How long somebody thinks, in a day that is over in minutes."""


@dataclass(slots=True)
class Desk:
    """Where somebody works: a folder with a project, and a home."""

    folder: Path
    chance: random.Random
    reports: list[dict[str, Any]] = field(default_factory=list)

    def say(
        self,
        url: str,
        mark: str,
        *flags: str,
        again: bool = False,
        max_tokens: int = 4000,
        leaves_after_s: float = 300,
        headers: str = "",
    ) -> None:
        """Have the client work at a task; `again` goes on with the last conversation."""
        project = self.folder / "project"
        if not again:
            write_project(project)
        task = f"Please see to this task. [[{mark} {project}]]"
        arguments = [*(("-c",) if again else ()), "-p", task, "--allowedTools", TOOLS, *flags]
        try:
            report = claude(
                url,
                *arguments,
                cwd=project,
                home=self.folder / "home",
                max_output_tokens=max_tokens,
                timeout_s=leaves_after_s,
                headers=headers,
            )
        except subprocess.TimeoutExpired:
            report = {"result": "its user has left"}
        self.reports.append(report)
        time.sleep(self.chance.uniform(*PAUSES_S))

    def work(self, url: str, *marks: str) -> None:
        """One task after the other; a mark that begins with + goes on with a conversation."""
        for mark in marks:
            self.say(url, mark.removeprefix("+"), again=mark.startswith("+"))


class Office:
    """Three desks, and the home of every server."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "server"
        self.desks = []
        for name in ("api", "web", "docs"):
            desk = Desk(folder / name, random.Random(name))
            desk.folder.mkdir()
            self.desks.append(desk)

    @contextmanager
    def open(self, *flags: str, model: str = "scripted-30b", **variables: str) -> Iterator[Server]:
        """A server of all of them."""
        told = ("--model", model, "--tool-format", "json_tags", *flags)
        with serving(*told, home=self.home, program=PROGRAM, **variables) as server:
            yield server
            time.sleep(1.5)

    def together(self, server: Server, *tasks: tuple[str, ...]) -> None:
        """Each at their own desk, at the same time."""
        with ThreadPoolExecutor(len(tasks)) as pool:
            work = [
                pool.submit(desk.work, server.url, *marks)
                for desk, marks in zip(self.desks, tasks, strict=True)
            ]
            for each in work:
                each.result()


def morning(office: Office) -> None:
    """Work of all kinds; the file of the recording is followed by others. Ends in a kill."""
    first, second, third = office.desks
    with office.open("--telemetry-max-bytes", "400KB") as server:
        office.together(
            server,
            ("feature-1", "+prose-1", "explore-1", "feature-2", "same-1"),
            ("explore-2", "wrong-1", "+feature-3", "table-1", "nested-1"),
            ("feature-4", "+prose-2", "explore-3", "+feature-5", "prose-3"),
        )
        for desk in office.desks:
            # Asked again: the answers are known.
            desk.say(server.url, "prose-4")
            desk.say(server.url, "prose-4")
            desk.say(server.url, "table-2", *SMALL)
            desk.say(server.url, "table-2", *SMALL)
        first.say(server.url, "prose-4", headers="cache-control: no-cache")
        first.say(server.url, "loop-1")
        second.say(server.url, "long-1", max_tokens=300)
        third.say(server.url, "wrong-2")
        third.say(server.url, "wrong-2")
        for number, leaves_after_s in enumerate((1.2, 2.0, 3.5, 5.0)):
            second.say(server.url, f"long-{number + 2}", leaves_after_s=leaves_after_s)
        # The system prompt, and then the tools, differ from what is known.
        first.say(server.url, "feature-6", "--append-system-prompt", "Today is Tuesday.")
        third.say(server.url, "feature-7", "--disallowedTools", "WebSearch")
        malformed(server, third)
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(second.say, server.url, "explore-4", leaves_after_s=20)
            time.sleep(6)
            server.process.kill()
            work.result()


def malformed(server: Server, desk: Desk) -> None:
    """Bodies that something between the client and the server has spoiled."""

    def spoil(body: dict[str, Any]) -> None:
        body["messages"][-1]["content"] = [{"type": "text"}]

    def spoil_heat(body: dict[str, Any]) -> None:
        body["temperature"] = "high"

    for change in (spoil, spoil_heat):
        with proxy(server.url, change) as url:
            desk.say(url, "prose-5", leaves_after_s=20)


def noon(office: Office) -> None:
    """After a restart: what is on disk is known. There is little room, and calls may be wrong."""
    first, second, third = office.desks
    with office.open("--prefix-cache-bytes", "6GiB", SCRIPTED_HELD="no") as server:
        for desk in office.desks:
            desk.say(server.url, "prose-4")
        first.say(server.url, "feature-8", again=True)
        office.together(
            server,
            ("explore-5", "feature-9", "+prose-6", "explore-6"),
            ("feature-10", "+feature-11", "same-2", "nested-2"),
            ("explore-7", "+prose-7", "feature-12", "wrong-3"),
        )
        second.say(server.url, "wrong-4")
        # Its first answer held a call that was none.
        second.say(server.url, "wrong-4")


def crowded(office: Office) -> None:
    """A server with two places, and more agents than that. Answers get old soon."""
    flags = ("--max-batch", "2", "--max-waiting", "1", "--answer-max-age-s", "20s")
    with office.open(*flags) as server:
        office.desks[0].say(server.url, "prose-4")
        office.together(
            server, ("explore-8", "same-3"), ("explore-9", "feature-13"), ("explore-10", "same-4")
        )


def failing(office: Office) -> None:
    """The engine fails, answers leave their grammar, nothing goes on, the window is too short."""
    flags = ("--stall-s", "2", "--ping-s", "0.5", "--context-tokens", "36000")
    with office.open(*flags, SCRIPTED_HANG_S="4") as server:
        for desk in office.desks:
            # What another model will be asked again.
            desk.say(server.url, "prose-4")
        office.together(
            server,
            ("crash-1", "feature-14", "big-1"),
            ("explore-11", "broken-1", "crash-2"),
            ("broken-2", "explore-12", "hang-1"),
        )


def evening(office: Office) -> None:
    """Another model: nothing that was known counts. And at last no answers are kept at all."""
    with office.open(model="scripted-80b") as server:
        for desk in office.desks:
            desk.say(server.url, "prose-4")
        office.together(
            server,
            ("feature-15", "explore-13"),
            ("explore-14", "+feature-16"),
            ("same-5", "prose-8"),
        )
    with office.open("--exact-cache-entries", "0", model="scripted-80b") as server:
        office.together(server, ("feature-17",), ("prose-9",), ("explore-15",))


def record(folder: Path) -> list[Path]:
    """A whole day in a folder; returns the files of telemetry in their order."""
    office = Office(folder)
    for part in (morning, noon, crowded, failing, evening):
        part(office)
    return sorted((office.home / "telemetry").glob("*.jsonl"))
