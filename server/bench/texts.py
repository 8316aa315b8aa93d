"""What the benchmark's requests say: prose of any length, a file to write again, a schema.

All of it is made here from our own words, so that a wheel needs no data, and any length can be had.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

_ADJECTIVES = (
    *("grey", "narrow", "patient", "wooden", "distant", "hollow", "silver", "late", "heavy"),
    *("quiet", "northern", "borrowed", "broken", "careful", "salty", "yellow", "steep", "empty"),
)
_NOUNS = (
    *("harbour", "letter", "engine", "captain", "ladder", "garden", "compass", "window", "river"),
    *("lantern", "teacher", "market", "bridge", "winter", "orchard", "kitchen", "station", "rope"),
    *("island", "ledger", "carpenter", "cellar", "signal", "meadow", "ferry", "clock", "valley"),
)
_VERBS = (
    *("waited beside", "was older than", "belonged to", "looked across", "came back from"),
    *("was painted like", "stood behind", "asked about", "forgot", "was sold with", "led to"),
)
_ENDS = (
    *("in the first days of spring", "before the rain began", "although nobody had asked"),
    *("as the old book says", "for the third time that year", "without a sound"),
    *("while the others slept", "and that was all", "long after the bells"),
)

STORY = "Tell me the long story of what happened there, with all the names, and don't stop early."
QUESTIONS = ("Who is the oldest of them?", "Where did the ferry go?", "What was painted last?")

_PARTS = (
    """def {a}(rows, limit):
    \"\"\"Return the first rows that are below the limit.\"\"\"
    found = []
    for row in rows:
        if row.price < limit and row.count > 0:
            found.append(row)
    return found
""",
    """def {a}(rows):
    \"\"\"Add up prices by country.\"\"\"
    result = {{}}
    for row in rows:
        result[row.country] = result.get(row.country, 0) + row.price * row.count
    return result
""",
    """def {a}(path, separator=","):
    \"\"\"Read a table from a file, a row a line.\"\"\"
    with open(path, encoding="utf-8") as file:
        head = file.readline().strip().split(separator)
        return [dict(zip(head, line.strip().split(separator))) for line in file]
""",
    """class {b}:
    \"\"\"Counts how often a name was seen.\"\"\"

    def __init__(self, start=0):
        self.start = start
        self.seen = {{}}

    def add(self, name):
        self.seen[name] = self.seen.get(name, self.start) + 1
        return self.seen[name]
""",
)
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "vessel": {"type": "string", "maxLength": 24},
        "vessel_category": {"enum": ["ferry", "trawler", "tanker", "sailing boat"]},
        "harbour_of_departure": {"type": "string", "maxLength": 24},
        "number_of_passengers": {"type": "integer", "minimum": 0, "maximum": 900},
        "has_radio_equipment": {"type": "boolean"},
        "cargo_declaration": {
            "type": "object",
            "properties": {
                "description": {"type": "string", "maxLength": 40},
                "weight_in_tonnes": {"type": "integer", "minimum": 0, "maximum": 9000},
                "needs_refrigeration": {"type": "boolean"},
            },
            "required": ["description", "weight_in_tonnes", "needs_refrigeration"],
            "additionalProperties": False,
        },
    },
    "required": [
        *("vessel", "vessel_category", "harbour_of_departure", "number_of_passengers"),
        *("has_radio_equipment", "cargo_declaration"),
    ],
    "additionalProperties": False,
}
"""Arguments of a call: about half of what is written is decided by the schema."""
REPORT = (
    "The Annabel left Bremen this morning, a ferry with 212 passengers and a radio on board. "
    "It carries 40 tonnes of apples, which have to be kept cool. "
)


def prose(name: str, n_words: int) -> str:
    """About so many words, the same for the same name; another name differs from the beginning."""
    return f"{name}. " + " ".join(_sentences(name, n_words))


def _sentences(name: str, n_words: int) -> Iterator[str]:
    chance, written = random.Random(name), 0
    while written < n_words:
        words = [
            *("The", chance.choice(_ADJECTIVES), chance.choice(_NOUNS), chance.choice(_VERBS)),
            *("the", chance.choice(_ADJECTIVES), chance.choice(_NOUNS), chance.choice(_ENDS)),
        ]
        sentence = " ".join(words) + "."
        written += sentence.count(" ") + 1
        yield sentence


def source_file(name: str, n_parts: int) -> str:
    """A file of Python code of so many functions and classes, with names of its own."""
    chance = random.Random(name)
    parts = []
    for number in range(n_parts):
        noun, other = chance.sample(_NOUNS, 2)
        words = {"a": f"{noun}_{other}_{number}", "b": f"{noun.title()}{other.title()}{number}"}
        parts.append(_PARTS[number % len(_PARTS)].format(**words))
    return "\n\n".join(parts)


def rewrite_request(content: str) -> str:
    """Asks for a file once more, with a small change."""
    return (
        f"This is a file:\n\n```python\n{content}```\n\n"
        "Write the whole file again, with the word `row` replaced by `line` in the first function. "
        "Keep everything else as it is, to the last space. Answer with the file alone."
    )


def copied_share(answer: str, content: str) -> float:
    """What part of an answer's lines, by their length, stand in a file as well."""
    known = {line.strip() for line in content.splitlines()}
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    written = sum(map(len, lines))
    return sum(len(line) for line in lines if line in known) / written if written else 0.0
