"""Figures three lines high, drawn with blocks: pure."""

from __future__ import annotations

HEIGHT = 3
MAX_CELLS = 12
"""Of the longest text that `text/format.py` makes, without the unit of bytes."""
_GLYPHS = {
    "0": ("█▀█", "█ █", "▀▀▀"),
    "1": ("▀█ ", " █ ", "▀▀▀"),
    "2": ("▀▀█", "█▀▀", "▀▀▀"),
    "3": ("▀▀█", " ▀█", "▀▀▀"),
    "4": ("█ █", "▀▀█", "  ▀"),
    "5": ("█▀▀", "▀▀█", "▀▀▀"),
    "6": ("█▀▀", "█▀█", "▀▀▀"),
    "7": ("▀▀█", "  █", "  ▀"),
    "8": ("█▀█", "█▀█", "▀▀▀"),
    "9": ("█▀█", "▀▀█", "▀▀▀"),
    "–": ("   ", "▀▀▀", "   "),
}


def large(text: str) -> tuple[str, str, str]:
    """A figure as three lines of equal length: digits are large, letters stand on the last."""
    glyphs: list[tuple[str, str, str]] = []
    before = ""
    for letter in text:
        if letter.isdigit() and before.isdigit():
            glyphs.append((" ", " ", " "))
        glyphs.append(_GLYPHS.get(letter, (" ", " ", letter)))
        before = letter
    first, second, third = ("".join(glyph[line] for glyph in glyphs) for line in range(HEIGHT))
    return first, second, third
