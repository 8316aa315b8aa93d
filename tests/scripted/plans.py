"""What the model of the day says: for each task a list of steps, found by a mark in the task.

A user's task holds `[[name folder]]`. How many answers stand behind it in the prompt tells which
step is due, so that the engine remembers nothing and any server can go on with it. What another
agent is told to do holds a mark of its own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.corpora.edits import hunk
from tests.corpora.prose import PASSAGES
from tests.corpora.repetitive import texts
from tests.corpora.source_files import SourceFile, source_file
from tests.scripted.engine import Reply

LANGUAGES = ("python", "javascript", "go", "yaml", "markdown", "sql", "rust", "json")
FINISHED = "There is nothing left to do."
TURN = re.compile(r"<(user|assistant)>(.*?)</\1>", re.DOTALL)
_MARK = re.compile(r"\[\[([a-z]+)-([0-9.]+) ([^\]\s]+)\]\]")


def sources() -> list[SourceFile]:
    """The files of every project, always the same."""
    return [
        source_file(each, random.Random(f"project {each}"), 3 + 4 * number)
        for number, each in enumerate(LANGUAGES)
    ]


def write_project(folder: Path) -> None:
    """Put the files where the client finds them, as they were."""
    for file in sources():
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    (folder / "big.log").write_text(
        "\n".join(f"{n} {PASSAGES[n % len(PASSAGES)].text[:90]}" for n in range(700)) + "\n"
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One answer."""

    says: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    thinks: str = ""
    raw: str = ""
    """What stands behind the text as it is: calls that are wrong."""
    fault: str = ""

    @property
    def text(self) -> str:
        """As a model writes it."""
        thought = f"<think>{self.thinks}</think>" if self.thinks else ""
        calls = "".join(
            f"\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
            for name, arguments in self.calls
        )
        return f"{thought}{self.says}{self.raw}{calls}"


@dataclass(frozen=True, slots=True)
class Task:
    """What a step may look at."""

    name: str
    number: str
    folder: str
    chance: random.Random

    def read(self, path: str, **more: int) -> tuple[str, dict[str, Any]]:
        """A call."""
        return "Read", {"file_path": f"{self.folder}/{path}", **more}

    def run(self, command: str) -> tuple[str, dict[str, Any]]:
        """A call."""
        return "Bash", {"command": command, "description": f"Run {command.split()[0]}"}

    def agent(
        self, name: str, about: str, kind: str = "general-purpose"
    ) -> tuple[str, dict[str, Any]]:
        """A call that starts another agent on a task of its own."""
        prompt = f"{about}. Say what you find in a few sentences. [[{name} {self.folder}]]"
        return "Agent", {"description": about[:40], "prompt": prompt, "subagent_type": kind}

    def pick(self, n: int) -> list[SourceFile]:
        """Some of the files."""
        return self.chance.sample(sources(), n)

    def words(self, n_sentences: int) -> str:
        """Something to say."""
        sentences = " ".join(each.text for each in PASSAGES).split(". ")
        return ". ".join(self.chance.sample(sentences, min(n_sentences, len(sentences)))) + "."


def _feature(task: Task) -> list[Step]:
    """A file is changed, and the change is looked at."""
    first, second, third = task.pick(3)
    unit = task.chance.choice(first.units)
    note = first.note.replace("$text", "Seen and found good.")
    after = first.text.replace(unit.text, f"{note}\n{unit.text}" if note else unit.wrong)
    old, new = hunk(first.text, after)
    edit = {"file_path": f"{task.folder}/{first.path}", "old_string": old, "new_string": new}
    return [
        Step("I look around first.", (task.run("ls -la"),), thinks=task.words(2)),
        Step(calls=(task.read(first.path), task.read(second.path))),
        Step(f"`{unit.name}` is the place. {task.words(1)}", (("Edit", edit),)),
        Step(calls=(task.run(f"wc -l {first.path}"), task.read(first.path))),
        Step("One more file may be concerned.", (task.read(third.path),)),
        Step(f"Done: `{unit.name}` has its note. {task.words(3)}"),
    ]


def _explore(task: Task) -> list[Step]:
    """Several other agents look at the same time."""
    files = task.pick(task.chance.choice((2, 3, 4)))
    kinds = ("general-purpose", "Explore")
    agents = tuple(
        task.agent(f"look-{task.number}.{n}", f"Look at {file.path}", kinds[n % 2])
        for n, file in enumerate(files)
    )
    return [
        Step("Others look while I wait.", agents, thinks=task.words(1)),
        Step(calls=(task.read(files[0].path),)),
        Step(f"They agree. {task.words(4)}"),
    ]


def _look(task: Task) -> list[Step]:
    """What another agent does."""
    first, second = task.pick(2)
    return [
        Step(calls=(task.run("ls"),)),
        Step("I read two of them.", (task.read(first.path), task.read(second.path))),
        Step(calls=(task.read(first.path, offset=5, limit=20),)),
        Step(f"{first.path} declares `{first.units[0].name}`. {task.words(2)}"),
    ]


def _same(task: Task) -> list[Step]:
    """Three agents are told the same, to the last byte."""
    agent = task.agent(f"look-{task.number}.9", "Look at everything")
    return [Step("Three tries.", (agent,) * 3), Step(f"All three say the same. {task.words(1)}")]


def _nested(task: Task) -> list[Step]:
    """An agent starts an agent that starts an agent."""
    agent = task.agent(f"deeper-{task.number}.1", "Find somebody who looks")
    return [Step("I hand it on.", (agent,)), Step(f"It came back. {task.words(2)}")]


def _deeper(task: Task) -> list[Step]:
    """The one in the middle."""
    agent = task.agent(f"look-{task.number}.2", "Look at the files")
    return [Step("And on.", (agent,)), Step(f"It was looked at. {task.words(1)}")]


def _prose(task: Task) -> list[Step]:
    """Words alone."""
    return [Step(task.words(task.chance.randrange(3, 12)), thinks=task.words(1))]


def _table(task: Task) -> list[Step]:
    """What repeats itself for a reason."""
    name, text = task.chance.choice(list(texts().items()))
    return [Step(f"This is `{name}`:\n\n{text[:1500]}")]


def _wrong(task: Task) -> list[Step]:
    """Calls that are none, that are mended, that don't fit their schema, of tools that aren't."""
    (file,) = task.pick(1)
    path = f"{task.folder}/{file.path}"
    broken = '\n<tool_call>\n{"name": "Read", "arguments": {"file_path": [}\n</tool_call>'
    mended = f"\n<tool_call>\n{{'name': 'Read', 'arguments': {{'file_path': '{path}',}}}}\n"
    return [
        Step("First try.", (task.read(file.path),), raw=broken),
        Step("Second try.", (("Read", {"path": path, "lines": "all"}),)),
        Step("Third try.", raw=f"{mended}</tool_call>"),
        Step("Fourth try.", (("Bash", {"command": ["ls", "-la"]}),)),
        Step("Nothing more will come.", raw=broken),
    ]


def _faulty(fault: str) -> Callable[[Task], list[Step]]:
    def plan(task: Task) -> list[Step]:
        """The engine fails in the middle of an answer, and the client tries again."""
        (file,) = task.pick(1)
        return [
            Step("I read it.", (task.read(file.path),)),
            Step(task.words(4), fault=fault),
        ]

    return plan


def _loop(task: Task) -> list[Step]:
    """An answer that goes round in circles."""
    return [Step("Well: " + "na " * 700), Step(f"Where was I? {task.words(1)}")]


def _long(task: Task) -> list[Step]:
    """One that is longer than its limit."""
    return [Step(task.words(40) * 3), Step(task.words(40) * 3), Step("So much for that.")]


def _big(task: Task) -> list[Step]:
    """More is read than the window holds."""
    return [
        Step("I read the log.", (task.read("big.log"),)),
        Step("Once more.", (task.read("big.log", offset=2, limit=650),)),
        Step("That was long."),
    ]


PLANS: dict[str, Callable[[Task], list[Step]]] = {
    "feature": _feature,
    "explore": _explore,
    "look": _look,
    "same": _same,
    "nested": _nested,
    "deeper": _deeper,
    "prose": _prose,
    "table": _table,
    "wrong": _wrong,
    "crash": _faulty("crash"),
    "hang": _faulty("hang"),
    "broken": _faulty("broken"),
    "loop": _loop,
    "long": _long,
    "big": _big,
}


def reply(prompt: str) -> Reply:
    """The answer to a prompt as `ByteTokenizer` renders it."""
    kind, number, folder, n_answers = "", "", "", 0
    for found in TURN.finditer(prompt):
        if found[1] == "assistant":
            n_answers += 1
        elif marks := _MARK.findall(found[2]):
            (kind, number, folder), n_answers = marks[-1], 0
    if not kind:
        return Reply("A title", place="title")
    task = Task(kind, number, folder, random.Random(f"{kind} {number}"))
    steps = PLANS[kind](task)
    if n_answers >= len(steps):
        return Reply(FINISHED)
    step = steps[n_answers]
    return Reply(step.text, step.fault, f"{kind}-{number}.{n_answers}")
