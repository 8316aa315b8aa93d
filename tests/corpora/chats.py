"""50 chats of several turns. What is asked has one right answer, which stands beside it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tests.corpora.example import Example, assistant, request, text, user
from tests.corpora.prose import PASSAGES
from tests.corpora.source_files import THINGS

N_CHATS = 50
SYSTEM = (
    "You are a helpful assistant. Answer with what is asked for and nothing else: no greeting, no "
    "explanation, no closing words."
)
Turn = tuple[str, str]
"""A question, and the right answer to it."""
GREETINGS: tuple[Turn, ...] = (
    ("Hello. Are you there?", "Yes."),
    ("Good morning. I have a few questions, may I begin?", "Yes, please."),
    ("I need help with a text today.", "I am listening."),
)
THANKS = ("Thank you. Now something else.", "Go on.")


def _quoting(chance: random.Random) -> list[Turn]:
    """A passage said again, whole and in parts."""
    passage = chance.choice(PASSAGES)
    sentence = f"{passage.text.split('. ')[0].removesuffix('.')}."
    words = passage.text.split()
    n = chance.randrange(3, 12)
    return [
        (f"Say this again, word for word:\n\n{passage.text}", passage.text),
        ("Only the first sentence.", sentence),
        (f"Only the first {n} words of it.", " ".join(words[:n])),
        ("Who wrote it? It is from " + passage.title + ".", passage.author),
        ("The whole passage again, in capital letters.", passage.text.upper()),
        ("And once more as it was.", passage.text),
    ]


def _sums(chance: random.Random) -> list[Turn]:
    """Numbers that build on each other."""
    total = chance.randrange(10, 90)
    turns = [(f"Remember the number {total}. Say it.", str(total))]
    for _ in range(chance.randrange(3, 7)):
        number = chance.randrange(2, 60)
        word, total = chance.choice((("Add", total + number), ("Take away", total - number)))
        turns.append((f"{word} {number}.", str(total)))
    return turns


def _lists(chance: random.Random) -> list[Turn]:
    """A list in other orders and other forms."""
    things = chance.sample(THINGS, chance.randrange(4, 9))
    dashes = "\n".join(f"- {thing}" for thing in things)
    numbers = "\n".join(f"{n}. {thing}" for n, thing in enumerate(sorted(things), 1))
    return [
        (f"Make a list with dashes of these: {', '.join(things)}.", dashes),
        ("The same as JSON.", json.dumps(things)),
        ("Sorted by the alphabet, with numbers.", numbers),
        ("How many are there?", str(len(things))),
        ("Which one is the longest word? The first, if there are several.", max(things, key=len)),
        ("The first list again.", dashes),
    ]


def _tables(chance: random.Random) -> list[Turn]:
    """Rows from one form into another: nearly every cell is copied."""
    columns = ("name", "count", "place")
    rows = [
        (thing, chance.randrange(1, 99), chance.choice(("cellar", "attic", "yard")))
        for thing in chance.sample(THINGS, chance.randrange(4, 12))
    ]
    csv = "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)])
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    by_count = sorted(rows, key=lambda row: -row[1])
    return [
        (f"Here is a table as CSV:\n\n{csv}\n\nMake Markdown of it.", _markdown(columns, rows)),
        ("And JSON, an object a row, indented by two.", json.dumps(objects, indent=2)),
        ("What is the sum of the counts?", str(sum(row[1] for row in rows))),
        ("Markdown once more, sorted by count, the largest first.", _markdown(columns, by_count)),
        ("The CSV as I gave it.", csv),
    ]


def _markdown(columns: tuple[str, ...], rows: list[tuple[str, int, str]]) -> str:
    lines = [f"| {' | '.join(map(str, row))} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(columns), *lines[1:]])


def _letters(chance: random.Random) -> list[Turn]:
    """A letter that is changed a little, again and again."""
    first, second = chance.sample(THINGS, 2)
    day = chance.choice(("Monday", "Tuesday", "Friday"))
    letter = (
        f"Dear neighbours,\n\non {day} the {first} will be fetched. Please leave the gate open, "
        f"and keep the {second} away from the stairs. If you have questions, ask on the second "
        "floor.\n\nKind regards,\nthe house"
    )
    later = letter.replace(day, "Thursday")
    other = later.replace(first, "piano")
    return [
        (f"Keep this letter, and say it again:\n\n{letter}", letter),
        (f"It is on Thursday, not on {day}. The whole letter, please.", later),
        (f"It is a piano, not a {first}. The whole letter, please.", other),
        ("Which floor are questions for?", "The second."),
        ("End it with `Yours` instead of `Kind regards`.", other.replace("Kind regards", "Yours")),
    ]


def _records(chance: random.Random) -> list[Turn]:
    """JSON that is changed key by key."""
    record = {
        "id": chance.randrange(1000, 9999),
        "title": f"The {chance.choice(THINGS)} that was lost",
        "tags": chance.sample(THINGS, 3),
        "open": True,
        "address": {"street": "Long Lane", "number": chance.randrange(1, 200)},
    }
    turns = [(f"Say this JSON again, indented by two:\n\n{json.dumps(record)}", _pretty(record))]
    record = {**record, "open": False}
    turns.append(("It is closed now. All of it, please.", _pretty(record)))
    record = {**record, "tags": [*_tags(record), "found"]}
    turns.append(("Add the tag `found` at the end.", _pretty(record)))
    record = {key: value for key, value in record.items() if key != "address"}
    turns.append(("Leave out the address.", _pretty(record)))
    turns.append(("On one line, with blanks after commas and colons.", json.dumps(record)))
    return turns


def _tags(record: dict[str, object]) -> list[object]:
    tags = record["tags"]
    return list(tags) if isinstance(tags, list) else []


def _pretty(record: dict[str, object]) -> str:
    return json.dumps(record, indent=2)


KINDS: tuple[Callable[[random.Random], list[Turn]], ...] = (
    *(_quoting, _sums, _lists, _tables, _letters, _records),
)


def chats(seed: int = 1) -> list[Example]:
    """All of them: the last question is open, and all before it are answered."""
    made = []
    for number in range(N_CHATS):
        chance = random.Random(f"chat {seed} {number}")
        kind = KINDS[number % len(KINDS)]
        turns = [chance.choice(GREETINGS)] if number % 2 else []
        turns += kind(chance)
        if number % 5 == 0:
            turns += [THANKS, *KINDS[(number + 1) % len(KINDS)](chance)]
        n_turns = chance.randrange(2, len(turns) + 1)
        messages = []
        for question, answer in turns[:n_turns]:
            messages += [user(question), assistant(answer)]
        right = str(messages.pop()["content"])
        name = kind.__name__.removeprefix("_")
        facts = {"kind": name, "turns": n_turns}
        body = request(messages, SYSTEM, max_tokens=2048)
        made.append(Example(f"chat-{number:02}-{name}", body, [text(right)], facts))
    return made
