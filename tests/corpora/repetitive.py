"""Texts that repeat themselves for good reasons, as models write them. Seeded: always the same."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

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


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    *(
        _table,
        _equal_rows,
        _csv,
        _matrix,
        _zeros,
        _minified,
        _lookup,
        _objects,
        _numbered,
        _bullets,
    ),
    *(_base64, _base64_lines, _hex_dump, _art, _boxes, _rulers, _progress, _log, _sql, _html),
    *(_truth, _nested, _genes, _verses),
)


def texts() -> dict[str, str]:
    """All of them by name."""
    return {kind.__name__.lstrip("_"): kind(random.Random(7)) for kind in _KINDS}
