"""The lines of a grammar as they are written: each has a name of its own."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """A text as a Lark string. llguidance's lexer takes DEL as an escape alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class GrammarLines:
    """The rules of one grammar, named as they come."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, body: str, attributes: str = "") -> str:
        """Give a rule a name, and return that."""
        name = f"r{len(self._lines)}"
        self._lines.append(f"{name}{attributes}: {body}")
        return name

    @property
    def next_name(self) -> str:
        """What the next rule will be called, for one that refers to itself."""
        return f"r{len(self._lines)}"

    def reserve(self) -> str:
        """A name whose rule is defined later."""
        return self.add("")

    def tell(self, name: str, body: str) -> None:
        """The rule of a reserved name."""
        self._lines[int(name[1:])] = f"{name}: {body}"

    def terminal(self, body: str) -> str:
        """Give a regular expression a name, and return that."""
        name = f"T{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name
