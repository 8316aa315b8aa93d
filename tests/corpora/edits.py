"""200 edits of files that stand in the prompt, with the edited file or the call that edits it.

The answer repeats most of what was read: what prompt lookup and caches are measured on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.corpora.agent_tools import SYSTEM, TOOLS, numbered
from tests.corpora.example import Example, assistant, request, text, tool_result, tool_use, user
from tests.corpora.source_files import LANGUAGES, SourceFile, Unit, source_file

N_EDITS = 200
FENCES = {"markdown": "````"}
"""Languages in which three backticks may stand in the file itself."""
WHOLE = (
    "You edit files. Answer with the whole file after the change, between fences, and with nothing "
    "else. Keep all that the change doesn't touch as it is, to the last space."
)


@dataclass(frozen=True, slots=True)
class Change:
    """A file, what is asked for, and the file after that."""

    kind: str
    instruction: str
    before: str
    after: str
    old_name: str = ""
    """What is replaced everywhere, for a change that does nothing else."""
    new_name: str = ""


def _fix(file: SourceFile, chance: random.Random) -> Change:
    place = chance.randrange(len(file.units))
    unit = file.units[place]
    broken = _put(file, place, replace(unit, text=unit.wrong))
    return Change("fix", f"{unit.complaint} Mend it.", broken.text, file.text)


def _rename(file: SourceFile, chance: random.Random) -> Change:
    # A name that is no part of another one, so that an editor's plain replacement renames it.
    names = [unit.name for unit in file.units]
    alone = [name for name in names if file.text.count(name) == len(_standing(name, file.text))]
    old = chance.choice(alone or names)
    new = _other_name(old)
    asked, after = f"Rename `{old}` to `{new}`.", file.text.replace(old, new)
    return Change("rename", asked, file.text, after, old, new)


def _standing(name: str, content: str) -> list[str]:
    """Where a name stands and is not a part of a longer one."""
    return re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", content)


def _insert(file: SourceFile, chance: random.Random) -> Change:
    place = chance.randrange(len(file.units) - 1)
    unit = file.units[place]
    rest = file.units[:place] + file.units[place + 1 :]
    before = file.with_units(*rest)
    where = f"before `{rest[place].name}`" if place < len(rest) else "at the end"
    asked = f"Add this {where}:\n\n{unit.text}"
    return Change("insert", asked, before.text, file.text)


def _remove(file: SourceFile, chance: random.Random) -> Change:
    unit = chance.choice(file.units)
    after = file.with_units(*(each for each in file.units if each is not unit))
    return Change("remove", f"Remove `{unit.name}`, nobody uses it.", file.text, after.text)


def _comment(file: SourceFile, chance: random.Random) -> Change:
    if not file.note:
        return _constant(file, chance)
    place = chance.randrange(len(file.units))
    unit = file.units[place]
    said = chance.choice(("Keep in step with the docs.", "Slow: see the notes.", "Public."))
    note = file.note.replace("$text", said)
    after = _put(file, place, replace(unit, text=f"{note}\n{unit.text}"))
    return Change("comment", f"Put `{note}` on a line above `{unit.name}`.", file.text, after.text)


def _constant(file: SourceFile, chance: random.Random) -> Change:
    for place in chance.sample(range(len(file.units)), len(file.units)):
        unit = file.units[place]
        if found := re.search(r"(?<![\w.])[1-9]\d*(?!\w)", unit.text):
            number = str(int(found[0]) + chance.randrange(1, 60))
            changed = unit.text[: found.start()] + number + unit.text[found.end() :]
            after = _put(file, place, replace(unit, text=changed))
            asked = f"In `{unit.name}`, change the first {found[0]} to {number}."
            return Change("constant", asked, file.text, after.text)
    return _rename(file, chance)


def _move(file: SourceFile, chance: random.Random) -> Change:
    place = chance.randrange(len(file.units) - 2)
    unit = file.units[place]
    after = file.with_units(*file.units[:place], *file.units[place + 1 :], unit)
    asked = f"Move `{unit.name}` behind `{file.units[-1].name}`."
    return Change("move", asked, file.text, after.text)


KINDS: tuple[Callable[[SourceFile, random.Random], Change], ...] = (
    *(_fix, _rename, _insert, _remove, _comment, _constant, _move),
)
VERBS = {"total": "sum", "find": "look_up", "load": "read_all", "save": "store", "group": "split"}


def _other_name(name: str) -> str:
    """Another good name, in the same way of writing."""
    for verb, other in VERBS.items():
        if name.startswith(f"{verb}_"):
            return f"{other}_{name.removeprefix(f'{verb}_')}"
    if "-" in name:
        return f"{name}-entry"
    return f"{name}_entry" if name.islower() else f"{name}Entry"


def _put(file: SourceFile, place: int, unit: Unit) -> SourceFile:
    return file.with_units(*file.units[:place], unit, *file.units[place + 1 :])


def hunk(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, with as many around them that the old ones stand there once."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    first = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    first = min(first, len(old), len(new))
    same = 0
    while same < min(len(old), len(new)) - first and old[-1 - same] == new[-1 - same]:
        same += 1
    while True:
        old_text = "".join(old[first : len(old) - same])
        if old_text and before.count(old_text) == 1:
            return old_text, "".join(new[first : len(new) - same])
        first, same = max(0, first - 1), max(0, same - 1)


def _whole(number: int, file: SourceFile, change: Change) -> Example:
    fence = FENCES.get(file.language, "```")
    shown = f"{fence}{file.language}\n{change.before}{fence}"
    asked = f"{file.path}:\n\n{shown}\n\n{change.instruction}"
    answer = f"{fence}{file.language}\n{change.after}{fence}"
    return _example(number, file, change, "whole", request([user(asked)], WHOLE), [text(answer)])


def _call(number: int, file: SourceFile, change: Change, tool: str) -> Example:
    path, call_id = f"/home/me/proj/{file.path}", f"toolu_read_{number:04}"
    messages = [
        user(f"{change.instruction} It is in {file.path}."),
        assistant("I read the file first.", tool_use(call_id, "Read", {"file_path": path})),
        user(tool_result(call_id, numbered(change.before))),
    ]
    if tool == "Write":
        arguments: dict[str, object] = {"file_path": path, "content": change.after}
    elif change.old_name:
        names = {"old_string": change.old_name, "new_string": change.new_name}
        arguments = {"file_path": path, **names, "replace_all": True}
    else:
        old, new = hunk(change.before, change.after)
        arguments = {"file_path": path, "old_string": old, "new_string": new}
    body = request(messages, SYSTEM, TOOLS)
    answer = [tool_use(f"toolu_edit_{number:04}", tool, arguments)]
    return _example(number, file, change, tool.lower(), body, answer)


def _example(
    number: int,
    file: SourceFile,
    change: Change,
    way: str,
    body: dict[str, object],
    answer: list[dict[str, object]],
) -> Example:
    facts = {
        "language": file.language,
        "kind": change.kind,
        "way": way,
        "path": file.path,
        "before": change.before,
        "after": change.after,
    }
    name = f"edit-{number:03}-{file.language}-{change.kind}-{way}"
    return Example(name, body, answer, facts)


def edits(seed: int = 1) -> list[Example]:
    """All of them. Languages and kinds take turns; the files have 20 to 450 lines."""
    made = []
    for number in range(N_EDITS):
        chance = random.Random(f"edit {seed} {number}")
        language = LANGUAGES[number % len(LANGUAGES)]
        file = source_file(language, chance, chance.choice((3, 5, 8, 12, 20, 32)))
        change = KINDS[number // len(LANGUAGES) % len(KINDS)](file, chance)
        # A call replaces one stretch of a file, or one name: what moves is written anew.
        way = ("whole", "Edit", "whole", "Edit", "Write")[number % 5]
        if way == "Edit" and change.kind == "move":
            way = "Write"
        if way == "whole":
            made.append(_whole(number, file, change))
        else:
            made.append(_call(number, file, change, way))
    return made
