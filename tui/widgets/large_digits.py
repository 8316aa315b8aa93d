"""Figures three lines high, of box-drawing characters: pure."""

from __future__ import annotations

HEIGHT = 3
MAX_CELLS = 12
"""Of the longest text that `text/format.py` makes."""
_GLYPHS = {
    "0": ("┏━┓", "┃ ┃", "┗━┛"),
    "1": ("╺┓ ", " ┃ ", "╺┻╸"),
    "2": ("╺━┓", "┏━┛", "┗━╸"),
    "3": ("╺━┓", " ━┫", "╺━┛"),
    "4": ("╻ ╻", "┗━┫", "  ╹"),
    "5": ("┏━╸", "┗━┓", "╺━┛"),
    "6": ("┏━╸", "┣━┓", "┗━┛"),
    "7": ("╺━┓", "  ┃", "  ╹"),
    "8": ("┏━┓", "┣━┫", "┗━┛"),
    "9": ("┏━┓", "┗━┫", "╺━┛"),
    "–": ("   ", "╺━╸", "   "),
}


def large(text: str) -> tuple[str, str, str]:
    """A figure as three lines of equal length: digits are large, all else stands on the last."""
    glyphs = [_GLYPHS.get(letter, (" ", " ", letter)) for letter in text]
    first, second, third = ("".join(glyph[line] for glyph in glyphs) for line in range(HEIGHT))
    return first, second, third
