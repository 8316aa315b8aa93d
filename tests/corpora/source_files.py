"""Source files of several languages, from the templates in `sources/`. Seeded: always the same.

A template has lines `key: value`, then parts that each begin with `%% head`, `%% unit` or
`%% tail`. A unit's line names what it declares, and what is wrong with it before it is mended. In
its text, `«wrong|right»` is the place of that mistake.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tests.corpora.prose import PASSAGES

FOLDER = Path(__file__).parent / "sources"
LANGUAGES = (
    *("python", "javascript", "json", "markdown", "yaml", "c"),
    *("typescript", "go", "rust", "sql", "toml", "css"),
)
THINGS = (
    *("order", "ticket", "invoice", "parcel", "song", "recipe", "plant", "route", "sensor"),
    *("badge", "letter", "lesson", "room", "boat", "coupon", "driver", "garden"),
)
COUNTS = ("amount", "weight", "price", "length", "rank", "score", "size", "age")
FLAGS = ("hidden", "locked", "archived", "broken", "shared", "draft")


@dataclass(frozen=True, slots=True)
class Template:
    """What all files of a language are made of."""

    path: str
    note: str
    """A comment in that language, around `$text`; empty if it has none."""
    between: str
    """What stands between two units."""
    head: str
    tail: str
    units: tuple[tuple[str, str, str], ...]
    """Name, complaint and text of each."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a file that can be changed alone."""

    name: str
    """What it declares; stands in its text."""
    complaint: str
    """What is wrong with `wrong`, as a user would say it."""
    text: str
    wrong: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file in parts."""

    language: str
    path: str
    head: str
    units: tuple[Unit, ...]
    tail: str
    between: str
    note: str

    @property
    def text(self) -> str:
        """The whole file, with a newline at its end."""
        joined = self.between.join(unit.text for unit in self.units)
        gap = "\n" if self.language == "json" else self.between
        return self.head + gap * bool(self.head) + joined + self.tail_text + "\n"

    @property
    def tail_text(self) -> str:
        """The end, with what stands before it."""
        gap = "\n" if self.language == "json" else self.between
        return gap + self.tail if self.tail else ""

    def with_units(self, *units: Unit) -> SourceFile:
        """The same file with other parts."""
        return replace(self, units=units)


@cache
def template(language: str) -> Template:
    """Read a template."""
    raw = (FOLDER / f"{language}.txt").read_text(encoding="utf-8")
    keys, *parts = re.split(r"^%% ", raw, flags=re.MULTILINE)
    told = dict(line.split(": ", 1) for line in keys.splitlines())
    head = tail = ""
    units = []
    for part in parts:
        title, text = part.split("\n", 1)
        text = text.removesuffix("\n")
        if title == "head":
            head = text
        elif title == "tail":
            tail = text
        else:
            name, complaint = title.removeprefix("unit ").split(" | ", 1)
            units.append((name, complaint, text))
    between = told.get("between", "\\n\\n").replace("\\n", "\n")
    return Template(told["path"], told.get("note", ""), between, head, tail, tuple(units))


@dataclass(frozen=True, slots=True)
class Topic:
    """The words that a template is filled with."""

    thing: str
    count: str
    flag: str
    number: int
    small: int
    passage: str

    def fill(self, text: str) -> str:
        """Put the words where their names stand."""
        plural = f"{self.thing}s"
        words = {"thing": self.thing, "things": plural, "count": self.count, "flag": self.flag}
        words |= {name.capitalize(): word.capitalize() for name, word in words.items()}
        words |= {"THINGS": plural.upper(), "COUNT": self.count.upper(), "passage": self.passage}
        words |= {"number": str(self.number), "small": str(self.small)}
        names = sorted(words, key=len, reverse=True)
        return re.sub(rf"\$({'|'.join(names)})", lambda found: words[found[1]], text)


def topics(chance: random.Random, n: int) -> list[Topic]:
    """Different ones."""
    return [
        Topic(
            thing,
            chance.choice(COUNTS),
            chance.choice(FLAGS),
            chance.randrange(20, 990),
            chance.randrange(2, 9),
            chance.choice(PASSAGES).text,
        )
        for thing in chance.sample(THINGS, n)
    ]


_MISTAKE = re.compile(r"«(.*?)\|(.*?)»", re.DOTALL)


def unit(told: tuple[str, str, str], topic: Topic) -> Unit:
    """A unit of a template about a topic."""
    name, complaint, text = map(topic.fill, told)
    right = _MISTAKE.sub(lambda found: found[2], text)
    wrong = _MISTAKE.sub(lambda found: found[1], text)
    return Unit(name, complaint, right, wrong)


def source_file(language: str, chance: random.Random, n_units: int) -> SourceFile:
    """A file with so many units, as far as the template has as many for five topics."""
    told = template(language)
    chosen = topics(chance, max(1, min(5, -(-n_units // len(told.units)) + 1)))
    units = [unit(each, topic) for topic in chosen for each in told.units]
    chance.shuffle(units)
    first = chosen[0]
    return SourceFile(
        language,
        first.fill(told.path),
        first.fill(told.head),
        tuple(units[:n_units]),
        first.fill(told.tail),
        told.between,
        told.note,
    )
