"""Texts that repeat themselves for good reasons, as models write them. Seeded: always the same.

A guard against loops must not end them, as far as it can tell.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

WORDS = ["alpha", "beta", "port", "host", "status", "cache", "token", "value", "error", "name"]


def _table(chance: random.Random) -> str:
    """Markdown, most of its cells equal."""
    rows = [f"| {n} | {chance.choice(WORDS)} | ok | 0 | 0 | - | - |" for n in range(120)]
    return "\n".join(["| # | name | state | errors | retries | a | b |", "|" + "---|" * 7, *rows])


def _equal_rows(_: random.Random) -> str:
    """A table to be filled in: every row is the same."""
    return "| Name | Qty | Price |\n|------|-----|-------|\n" + "|      |     |       |\n" * 18


def _csv(chance: random.Random) -> str:
    """Equal cells with a column that counts."""
    return "\n".join(f"{1000 + n},0,0,0,0,0,{chance.randrange(9)},,,," for n in range(200))


def _matrix(_: random.Random) -> str:
    """An identity matrix."""
    rows = [[int(row == column) for column in range(24)] for row in range(24)]
    return "[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]"


def _zeros(_: random.Random) -> str:
    """A list of zeros, a key of zeros, and a number without end, almost."""
    key = "\\x00" * 48
    return f"weights = {[0] * 64}\nkey = b'{key}'\nid = '{'0' * 128}'"


def _minified(chance: random.Random) -> str:
    """JavaScript without a line feed, one function like the next."""
    return "".join(
        f"function {chance.choice('abcdefg')}{n}(e,t){{return e&&e.{chance.choice(WORDS)}?"
        f"t(e.{chance.choice(WORDS)}):null}}var r{n}=n({n});"
        for n in range(150)
    )


def _lookup(chance: random.Random) -> str:
    """A table of numbers in minified code."""
    return "var T=[" + ",".join(str(chance.choice([0, 0, 0, 1, 255])) for _ in range(512)) + "];"


def _objects(chance: random.Random) -> str:
    """A long list of nearly equal JSON objects."""
    rows: list[dict[str, Any]] = [
        {"id": n, "ok": True, "n": None, "tags": [], "of": chance.choice(WORDS)} for n in range(150)
    ]
    return json.dumps(rows)


def _numbered(_: random.Random) -> str:
    """A list that counts and says the same each time."""
    return "\n".join(f"{n}. Check that the value is not empty." for n in range(1, 200))


def _bullets(chance: random.Random) -> str:
    """Files that pass, in no order that counts."""
    return "\n".join(
        f"- [x] tests/{chance.choice(WORDS)}_{chance.choice(WORDS)}.py: passed" for _ in range(150)
    )


def _base64(chance: random.Random) -> str:
    """A picture: noise, and a stretch of one colour."""
    content = chance.randbytes(1500) + bytes(500) + chance.randbytes(500)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _base64_lines(_: random.Random) -> str:
    """In lines of 76, one byte of three different."""
    return base64.encodebytes(bytes(n % 251 if n % 3 else 0 for n in range(3000))).decode()


def _hex_dump(chance: random.Random) -> str:
    """Much of it zeros."""
    lines = []
    for offset in range(0, 1600, 16):
        content = bytes(16) if offset % 160 else chance.randbytes(16)
        pairs = " ".join(f"{byte:02x}" for byte in content)
        lines.append(f"{offset:08x}: {pairs}  {'.' * 16}")
    return "\n".join(lines)


def _art(_: random.Random) -> str:
    """A chess board and a fir tree."""
    board = ("#   " * 8 + "\n" + "  # " * 8 + "\n") * 4
    return board + "\n".join(" " * (40 - n) + "*" * (2 * n + 1) for n in range(40))


def _boxes(_: random.Random) -> str:
    """A table drawn with box characters."""
    ruler = "├" + ("─" * 16 + "┼") * 4 + "─" * 16 + "┤"
    rows = [f"│ {n:<14} │" + f" {'ok':<14} │" * 4 for n in range(40)]
    return f"\n{ruler}\n".join(rows)


def _rulers(chance: random.Random) -> str:
    """Lines of dashes and equals signs between sections, and a long one."""
    sections = [f"{'=' * 80}\n{chance.choice(WORDS)} {n}\n{'-' * 80}" for n in range(40)]
    return "\n".join([*sections, "-" * 240, "=" * 240, "#" * 240, "*" * 240, "_" * 240])


def _progress(_: random.Random) -> str:
    """What pytest prints of a long run."""
    lines = [f"tests/test_{word}.py {'.' * 60} [{n * 7:3}%]" for n, word in enumerate(WORDS)]
    return "\n".join(lines)


def _log(chance: random.Random) -> str:
    """Lines that differ in their times alone."""
    times = (
        f"2026-03-05T12:{n // 60:02}:{n % 60:02}.{chance.randrange(1000):03}Z" for n in range(200)
    )
    return "\n".join(f"{time} INFO  worker is alive, 0 jobs waiting" for time in times)


def _sql(chance: random.Random) -> str:
    """One insert after the other."""
    return "\n".join(
        f"INSERT INTO t (id, a, b, c) VALUES ({n}, NULL, NULL, '{chance.choice(WORDS)}');"
        for n in range(100)
    )


def _html(chance: random.Random) -> str:
    """Rows of a page."""
    return "".join(
        f'<tr class="row"><td>{n}</td><td></td><td></td><td>{chance.choice(WORDS)}</td></tr>\n'
        for n in range(100)
    )


def _truth(_: random.Random) -> str:
    """All values of six variables."""
    return "\n".join(" ".join(f"{n:06b}") + " | 0" for n in range(64))


def _nested(_: random.Random) -> str:
    """Brackets as deep as indented ones get, and all that closes them."""
    opened = [f"{'    ' * depth}if (a[{depth}]) {{" for depth in range(30)]
    return "\n".join([*opened, *(f"{'    ' * depth}}}" for depth in reversed(range(30)))])


def _genes(chance: random.Random) -> str:
    """Four letters in lines of 60, with a repeat."""
    letters = (
        "".join(chance.choices("ACGT", k=1500))
        + "CAG" * 60
        + "".join(chance.choices("ACGT", k=300))
    )
    return "\n".join(letters[n : n + 60] for n in range(0, len(letters), 60))


def _verses(_: random.Random) -> str:
    """A song that counts down."""
    return "\n".join(
        f"{n} green bottles hanging on the wall,\n{n} green bottles hanging on the wall,\n"
        "And if one green bottle should accidentally fall,\n"
        f"There'll be {n - 1} green bottles hanging on the wall.\n"
        for n in range(30, 0, -1)
    )


def _ruler(_: random.Random) -> str:
    """One ruler of 4,000 dashes, and as many dots before a page number."""
    return "-" * 4000 + "\n" + "." * 4000 + " 12"


def _closing(_: random.Random) -> str:
    """Brackets that close what is nested a hundred deep."""
    return "[" * 100 + "1" + "]" * 100 + "\n" + "(" * 80 + "x" + ")" * 80


def _passes(_: random.Random) -> str:
    """Stubs that have nothing in them yet."""
    return "\n".join(f"def step_{n}():\n    pass\n" for n in range(60))


def _hundred_zeros(_: random.Random) -> str:
    """`[0] * 100` and `[False] * 200`, written out."""
    return f"a = {[0] * 100}\nb = {[False] * 200}"


def _zero_bytes(_: random.Random) -> str:
    """A buffer of 256 zeros in C."""
    return f"static const unsigned char zero[256] = {{{'0x00, ' * 255}0x00}};"


def _null_rows(_: random.Random) -> str:
    """A JSON list of 200 times null, one a line."""
    return "[\n" + ",\n".join(["  null"] * 200) + "\n]"


def _empty_form(_: random.Random) -> str:
    """A table of 100 rows to be filled in by hand."""
    return "| Name | Qty | Price |\n|------|-----|-------|\n" + "|      |     |       |\n" * 100


def _equal_inserts(_: random.Random) -> str:
    """60 rows with nothing but defaults, a statement each."""
    return "INSERT INTO t (a, b) VALUES (0, 0);\n" * 60


def _equal_values(_: random.Random) -> str:
    """120 equal rows in one statement."""
    return "INSERT INTO t (a, b) VALUES\n" + ",\n".join(["(0, NULL, '')"] * 120) + ";"


def _zero_csv(_: random.Random) -> str:
    """A matrix of 150 x 4 zeros."""
    return "0,0,0,0\n" * 150


def _empty_cells(_: random.Random) -> str:
    """120 empty cells, and 150 breaks of a line."""
    return "<tr>" + "<td></td>" * 120 + "</tr>" + "<br>" * 150


def _nops(_: random.Random) -> str:
    """100 instructions that do nothing, as hardware is made to wait."""
    return "    nop\n" * 100


def _refrain(_: random.Random) -> str:
    """A refrain that is sung 30 times."""
    return "la la la la la la la la\n" * 30


def _squares(_: random.Random) -> str:
    """A board of 40 rows."""
    return "# . # . # . # .\n. # . # . # . #\n" * 20


Kind = Callable[[random.Random], str]

_SHORT: tuple[Kind, ...] = (
    *(_table, _equal_rows, _csv, _matrix, _zeros, _minified, _lookup, _objects, _numbered),
    *(_bullets, _base64, _base64_lines, _hex_dump, _art, _boxes, _rulers, _progress, _log, _sql),
    *(_html, _truth, _nested, _genes, _verses, _ruler, _closing, _passes),
)
_LONG: tuple[Kind, ...] = (
    *(_hundred_zeros, _zero_bytes, _null_rows, _empty_form, _equal_inserts, _equal_values),
    *(_zero_csv, _empty_cells, _nops, _refrain, _squares),
)
"""One short cycle for hundreds of tokens: by its tokens alone nothing but its end tells it from a
loop."""
SEED = 7


class Repetition(NamedTuple):
    """A text that no guard should end."""

    name: str
    what: str
    """What it is."""
    text: str
    is_one_cycle: bool
    """Whether a cycle of a few tokens fills all of it, or a long stretch."""


def repetitions(seed: int = SEED) -> list[Repetition]:
    """All of them."""
    return [
        Repetition(
            kind.__name__.removeprefix("_"),
            (kind.__doc__ or "").rstrip("."),
            kind(random.Random(seed)),
            kind in _LONG,
        )
        for kind in (*_SHORT, *_LONG)
    ]


def texts() -> dict[str, str]:
    """By name, those that are more than one cycle."""
    return {each.name: each.text for each in repetitions() if not each.is_one_cycle}
