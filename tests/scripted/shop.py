"""What the model of the afternoon says: people ask in plain words, and each task is one of a list.

A task is known by a sentence that its user says. How many answers stand behind it in the prompt
tells which step is due, as with `plans`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.corpora.edits import hunk
from tests.corpora.source_files import SourceFile, Unit, source_file
from tests.scripted.engine import Reply
from tests.scripted.plans import TURN, Step

LANGUAGES = ("python", "javascript", "go", "sql", "rust", "markdown", "json", "yaml")
CHECKS = {
    "python": "python3 -m py_compile {path} && echo fine",
    "javascript": "node --check {path} && echo fine",
    "json": "python3 -m json.tool {path} > /dev/null && echo fine",
}
"""How a file is checked; any other is looked at as a change."""
ELSEWHERE = "git diff --stat"
TITLE = "A title for this conversation"
_FOLDER = re.compile(r"orking directory: (\S+)")
_CALL = tuple[str, dict[str, Any]]


@cache
def files() -> dict[str, SourceFile]:
    """The project as it should be, by language: always the same."""
    found = {}
    for number, each in enumerate(LANGUAGES):
        chance = random.Random(f"shop {each}")
        found[each] = source_file(each, chance, 4 + 3 * number)
    return found


def before(file: SourceFile) -> str:
    """A file as the people of the afternoon find it: each second part of it has a mistake."""
    text = file.text
    for unit in file.units[::2]:
        text = text.replace(unit.text, unit.wrong, 1)
    return text


def write_project(folder: Path) -> None:
    """Put the files where the client finds them."""
    for file in files().values():
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before(file), encoding="utf-8")
    (folder / "README.md").write_text("# Shop\n\nOrders, parcels and what belongs to them.\n")


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody works."""

    folder: str

    def read(self, path: str, **more: int) -> _CALL:
        """A call."""
        return "Read", {"file_path": f"{self.folder}/{path}", **more}

    def run(self, command: str, why: str) -> _CALL:
        """A call."""
        return "Bash", {"command": command, "description": why}

    def edit(self, path: str, old: str, new: str) -> _CALL:
        """A call."""
        whole = f"{self.folder}/{path}"
        return "Edit", {"file_path": whole, "old_string": old, "new_string": new}

    def agent(self, about: str, prompt: str, kind: str) -> _CALL:
        """A call that starts another agent."""
        return "Agent", {"description": about, "prompt": prompt, "subagent_type": kind}


Plan = Callable[[Place], list[Step]]


def _said(file: SourceFile) -> str:
    names = ", ".join(f"`{unit.name}`" for unit in file.units[:3])
    return f"{file.path} has {len(file.units)} parts, {names} among them."


def _mended(file: SourceFile, unit: Unit, *, hasty: bool) -> Plan:
    """A mistake is looked for, mended and checked; a hasty one edits before it has read."""

    def plan(place: Place) -> list[Step]:
        found = before(file)
        old, new = hunk(found, found.replace(unit.wrong, unit.text, 1))
        check = CHECKS.get(file.language, ELSEWHERE).format(path=file.path)
        look = place.run(f"grep -rn '{unit.name}' . | head -20", "Find where it is used")
        edit = Step(f"`{unit.name}` is the place.", (place.edit(file.path, old, new),))
        return [
            Step("I look for it.", (look,), thinks=f"The user says: {unit.complaint}"),
            *((edit,) if hasty else ()),
            Step(calls=(place.read(file.path),)),
            edit,
            Step(calls=(place.run(check, "Check the file"),)),
            Step(f"`{unit.name}` in {file.path} is mended. {_said(file)} I changed nothing else."),
        ]

    return plan


def _asked(file: SourceFile, unit: Unit) -> Plan:
    """A question about a file, and a long answer."""

    def plan(place: Place) -> list[Step]:
        text = " ".join(f"`{each.name}`: {each.complaint}" for each in file.units)
        return [
            Step(calls=(place.read(file.path),), thinks="I have to see all of the file first."),
            Step(f"{_said(file)} `{unit.name}` is declared there. What I would look at: {text}"),
        ]

    return plan


def _searched(*languages: str) -> Plan:
    """Other agents look at the same time; each one's word comes back as it is done."""

    def plan(place: Place) -> list[Step]:
        own = [files()[each] for each in languages]
        kinds = ("Explore", "general-purpose")
        agents = tuple(
            place.agent(f"Look through {file.path}", sentence("look", file), kinds[n % 2])
            for n, file in enumerate(own)
        )
        waits = [Step(f"One more is back. {_said(file)}") for file in own]
        return [
            Step("I let agents look while I read.", agents, thinks="These don't need each other."),
            Step(calls=(place.read(own[0].path), place.read("README.md"))),
            Step(f"So far: {_said(own[0])} I wait for the others."),
            *waits,
        ]

    return plan


def _looked(file: SourceFile) -> Plan:
    """What another agent does."""

    def plan(place: Place) -> list[Step]:
        lines = len(file.text.splitlines())
        count = place.run(f"wc -l {file.path} && grep -c . {file.path}", "Count lines")
        half = place.read(file.path, offset=1, limit=max(20, lines // 2))
        rest = place.read(file.path, offset=max(20, lines // 2), limit=lines)
        name = file.units[-1].name
        return [
            Step(calls=(count, half)),
            Step("The second half too.", (rest,)),
            Step(calls=(place.run(f"grep -rn '{name}' . | head", "Find who uses it"),)),
            Step(f"{_said(file)} Nobody but the file itself names `{name}`."),
        ]

    return plan


def _tested(place: Place) -> list[Step]:
    """Tests that are not there yet."""
    python = files()["python"]
    run = place.run("python3 -m unittest discover -q tests", "Run the tests")
    content = (
        "import py_compile\nimport unittest\n\n\nclass Sources(unittest.TestCase):\n"
        f"    def test_sources_compile(self):\n        py_compile.compile({python.path!r})\n"
    )
    test = {"file_path": f"{place.folder}/tests/test_sources.py", "content": content}
    return [
        Step(calls=(run,)),
        Step("There are no tests yet.", (place.run("ls -la . src", "Look around"),)),
        Step(calls=(place.read(python.path), place.read(files()["javascript"].path))),
        Step("I write a first one.", (("Write", test),)),
        Step(calls=(run,)),
        Step("There is a test now, and it passes. It compiles what is in src."),
    ]


def _committed(place: Place) -> list[Step]:
    """What was done is kept."""
    return [
        Step(calls=(place.run("git status --short", "See what changed"),)),
        Step(calls=(place.run("git diff", "See the changes"),)),
        Step(calls=(place.run("git commit -qam 'Mend what was reported'", "Commit"),)),
        Step("Committed."),
    ]


def _reviewed(place: Place) -> list[Step]:
    """A change is read; one call is none, and is written again."""
    broken = '\n<tool_call>\n{"name": "Read", "arguments": {"file_path": [}\n</tool_call>'
    path = f"{place.folder}/{files()['go'].path}"
    mended = f"\n<tool_call>\n{{'name': 'Read', 'arguments': {{'file_path': '{path}',}}}}\n"
    return [
        Step(calls=(place.run("git diff", "See the changes"),), thinks="What changed?"),
        Step("I read what stands around it.", (place.read(files()["sql"].path),), raw=broken),
        Step(raw=f"{mended}</tool_call>"),
        Step(calls=(place.read("docs/missing.md"),)),
        Step("It is good. One thing: docs/missing.md is named and isn't there."),
    ]


def _chatted(text: str) -> Plan:
    """One answer."""
    return lambda _: [Step(text)]


def sentence(kind: str, file: SourceFile, unit: Unit | None = None) -> str:
    """What is said to have something done with a file or a part of it."""
    if kind == "look":
        return f"Look through {file.path}: what is declared there, and who uses it?"
    assert unit is not None
    if kind == "ask":
        return f"What does `{unit.name}` in {file.path} do, and what would you change there?"
    return f"{unit.complaint} Mend it, please."


SEARCHES = {
    "Which of our files name parcels or orders? Let agents look.": ("go", "sql", "json"),
    "Is anything declared twice? Let agents look through the sources.": ("python", "rust"),
    "Compare the docs with what the code does. Let agents read.": ("markdown", "yaml", "rust"),
    "Who else reads the database? Look at several places at once.": ("sql", "javascript", "go"),
}
TESTS = "Run the tests, and see to what is missing."
COMMIT = "That is fine. Commit it."
REVIEW = "Review what changed before I commit."
CHANGES = "Write one line for the changelog about: orders keep their date."
MESSAGE = "A commit message for: parcels are sorted by weight."
HURRY = "Tell me all about the shop, from the first file to the last."


@cache
def tasks() -> dict[str, Plan]:
    """Every task, by the sentence that asks for it."""
    known: dict[str, Plan] = {}
    for file in files().values():
        known[sentence("look", file)] = _looked(file)
        for number, unit in enumerate(file.units):
            known[sentence("ask", file, unit)] = _asked(file, unit)
            if number % 2 == 0 and f"`{unit.name}`" in unit.complaint:
                hasty = number % 8 == 4
                known[sentence("mend", file, unit)] = _mended(file, unit, hasty=hasty)
    for text, languages in SEARCHES.items():
        known[text] = _searched(*languages)
    known |= {TESTS: _tested, COMMIT: _committed, REVIEW: _reviewed}
    known[CHANGES] = _chatted("Orders keep the date on which they were placed.")
    known[MESSAGE] = _chatted("Sort parcels by weight")
    known[HURRY] = _chatted(" ".join(_said(file) for file in files().values()) * 6)
    return known


def mends() -> Iterator[str]:
    """What may be asked to be mended, one file after the other in turn."""
    own = [
        [text for unit in file.units if (text := sentence("mend", file, unit)) in tasks()]
        for file in files().values()
    ]
    for round_ in range(max(map(len, own))):
        yield from (each[round_] for each in own if round_ < len(each))


def reply(prompt: str) -> Reply:
    """The answer to a prompt as `ByteTokenizer` renders it."""
    plan, sought, n_answers = None, "", 0
    for found in TURN.finditer(prompt):
        if found[1] == "assistant":
            n_answers += 1
            continue
        asked = [text for text in tasks() if text in found[2]]
        if asked and "<task-notification>" not in found[2]:
            sought, n_answers = asked[-1], 0
            plan = tasks()[sought]
    if plan is None:
        return Reply(TITLE, place="title")
    folder = _FOLDER.findall(prompt)
    steps = plan(Place(folder[-1] if folder else "/home/me/shop"))
    step = steps[n_answers] if n_answers < len(steps) else Step("That is all of it.")
    return Reply(step.text, place=f"{sought} {n_answers}")
