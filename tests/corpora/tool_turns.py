"""50 turns of a coding agent: what it was told and what its tools returned, and what it does next.

Each conversation is worked out over files that exist while it is made, so that results are true:
what `Grep` finds stands in what `Read` shows. Its turns follow one another, each with the whole
conversation before it, as a client sends them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.corpora.agent_tools import SYSTEM, TOOLS, numbered
from tests.corpora.edits import hunk
from tests.corpora.example import (
    Example,
    assistant,
    request,
    text,
    tool_result,
    tool_use,
    user,
)
from tests.corpora.source_files import SourceFile, source_file

N_TURNS = 50
ROOT = "/home/me/proj"
Blocks = list[dict[str, Any]]
Step = tuple[Blocks, Blocks]
"""What the model does, and what comes back; nothing, where it is done."""


class Project:
    """A few files, and tools that work on them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        languages = chance.sample(("python", "javascript", "go", "yaml", "markdown"), 3)
        self.sources = [source_file(each, chance, chance.randrange(3, 9)) for each in languages]
        self.files = {f"{ROOT}/{file.path}": file.text for file in self.sources}
        self._n_calls = 0

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A call with an id of its own."""
        self._n_calls += 1
        return tool_use(f"toolu_{self._n_calls:04}", name, arguments)

    def read(self, path: str) -> Step:
        """A file is read."""
        call = self.call("Read", file_path=path)
        return [call], [tool_result(call["id"], numbered(self.files[path]))]

    def grep(self, wanted: str) -> Step:
        """A word is looked for everywhere."""
        call = self.call("Grep", pattern=wanted, path=ROOT, output_mode="content")
        found = [
            f"{path}:{number}:{line}"
            for path, content in self.files.items()
            for number, line in enumerate(content.splitlines(), 1)
            if wanted in line
        ]
        return [call], [tool_result(call["id"], "\n".join(found) or "No matches found")]

    def edit(self, path: str, after: str) -> Step:
        """A file becomes another one."""
        old, new = hunk(self.files[path], after)
        self.files[path] = after
        call = self.call("Edit", file_path=path, old_string=old, new_string=new)
        return [call], [tool_result(call["id"], f"The file {path} has been updated.")]

    def run(self, command: str, output: str, *, fails: bool = False) -> Step:
        """A command is run."""
        call = self.call("Bash", command=command, description=f"Run {command.split()[0]}")
        return [call], [tool_result(call["id"], output, is_error=fails)]

    def pick(self) -> tuple[str, SourceFile]:
        """One of the files."""
        file = self.chance.choice(self.sources)
        return f"{ROOT}/{file.path}", file


def said(words: str, step: Step) -> Step:
    """The same with a sentence before the call."""
    return [text(words), *step[0]], step[1]


def together(*steps: Step) -> Step:
    """Several calls in one turn."""
    return [block for step in steps for block in step[0]], [b for step in steps for b in step[1]]


def _mend(project: Project) -> tuple[str, list[Step]]:
    """A test fails; the mistake is found and mended."""
    path, file = project.pick()
    unit = project.chance.choice(file.units)
    right = project.files[path]
    project.files[path] = right.replace(unit.text, unit.wrong)
    failing = f"FAILED tests/{file.language}: {unit.name}\n1 failed, {len(file.units)} passed"
    passing = f"{len(file.units) + 1} passed"
    return f"{unit.complaint} Please mend it, and run the tests.", [
        said("I look where it is.", project.grep(unit.name)),
        project.read(path),
        project.run("make test", failing, fails=True),
        project.edit(path, right),
        project.run("make test", passing),
        ([text(f"`{unit.name}` is mended, and the tests pass.")], []),
    ]


def _survey(project: Project) -> tuple[str, list[Step]]:
    """Everything is read at once, then told."""
    paths = list(project.files)
    listing = project.call("Glob", pattern="**/*")
    names = ", ".join(sorted(path.removeprefix(f"{ROOT}/") for path in paths))
    lines = {path: len(content.splitlines()) for path, content in project.files.items()}
    counts = "\n".join(f"{n:>5} {path}" for path, n in lines.items())
    return "What is in this project? Count the lines, too.", [
        ([listing], [tool_result(listing["id"], "\n".join(paths))]),
        said("I read them all.", together(*map(project.read, paths))),
        project.run(f"wc -l {' '.join(paths)}", counts),
        ([text(f"It has {len(paths)} files ({names}) with {sum(lines.values())} lines.")], []),
    ]


def _lost(project: Project) -> tuple[str, list[Step]]:
    """A file isn't where the user says."""
    path, file = project.pick()
    wrong = path.replace(ROOT, f"{ROOT}/old")
    missing = project.call("Read", file_path=wrong)
    found = project.call("Glob", pattern=f"**/{path.rsplit('/', 1)[1]}")
    unit = file.units[0]
    return f"Read {wrong} and tell me the first thing that it declares.", [
        ([missing], [tool_result(missing["id"], "File does not exist.", is_error=True)]),
        said("It isn't there, I look for it.", ([found], [tool_result(found["id"], path)])),
        project.read(path),
        ([text(f"It is in {path}; the first thing is `{unit.name}`.")], []),
    ]


def _plan(project: Project) -> tuple[str, list[Step]]:
    """A list of what is to be done is kept while two things are removed."""
    path, file = project.pick()
    gone = project.chance.sample(list(file.units), 2)
    tasks = [f"Remove {unit.name}" for unit in gone]

    def todo(*states: str) -> Step:
        items = [{"content": t, "status": s} for t, s in zip(tasks, states, strict=True)]
        call = project.call("TodoWrite", todos=items)
        return [call], [tool_result(call["id"], "The list has been updated.")]

    half = file.with_units(*(unit for unit in file.units if unit is not gone[0]))
    done = half.with_units(*(unit for unit in half.units if unit is not gone[1]))
    asked = f"Remove `{gone[0].name}` and `{gone[1].name}` from {file.path}, one after the other."
    return asked, [
        together(todo("in_progress", "pending"), project.read(path)),
        project.edit(path, half.text),
        todo("completed", "in_progress"),
        project.edit(path, done.text),
        todo("completed", "completed"),
        ([text("Both are gone.")], []),
    ]


def _helpers(project: Project) -> tuple[str, list[Step]]:
    """Two other agents look things up at the same time."""
    steps = []
    for path, file in zip(project.files, project.sources, strict=True):
        call = project.call(
            "Agent",
            description=f"Look at {file.path}",
            prompt=f"Read {path} and list the names of all that it declares.",
            subagent_type="search",
        )
        names = "\n".join(f"- {unit.name}" for unit in file.units)
        steps.append(([call], [tool_result(call["id"], names)]))
    total = sum(len(file.units) for file in project.sources)
    return "How many things does each file declare? Let others look, one for each file.", [
        together(*steps),
        ([text(f"Together they declare {total} things.")], []),
    ]


KINDS: tuple[Callable[[Project], tuple[str, list[Step]]], ...] = (
    *(_mend, _survey, _lost, _plan, _helpers),
)


def _turns(number: int, seed: int) -> Iterator[Example]:
    """Every turn of one conversation."""
    kind = KINDS[number % len(KINDS)]
    asked, steps = kind(Project(random.Random(f"tools {seed} {number}")))
    messages = [user(text(asked))]
    for turn, (does, results) in enumerate(steps):
        name = kind.__name__.removeprefix("_")
        facts = {"kind": name, "conversation": number, "turn": turn}
        body = request(list(messages), SYSTEM, TOOLS)
        yield Example(f"tools-{number:02}-{name}-{turn}", body, does, facts)
        messages += [assistant(*does), user(*results)]


def tool_turns(seed: int = 1) -> list[Example]:
    """All of them, conversation by conversation."""
    made: list[Example] = []
    number = 0
    while len(made) < N_TURNS:
        made += _turns(number, seed)
        number += 1
    return made[:N_TURNS]
