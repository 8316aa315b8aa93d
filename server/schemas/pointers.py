"""References of a schema into itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

DEFINED = ("$defs", "definitions")
VALUES = ("const", "default", "examples", "example", "enum")
"""Keywords whose values are of the user's kind: nothing in them is schema."""
MAX_STEPS = 32
"""Of references to references."""
_MAX_DIGITS = 9


def resolved(path: Any, root: Any) -> Any:
    """The target of a reference; None if it is missing, elsewhere, or part of a cycle."""
    found = pointed(path, root)
    following = found
    for _ in range(MAX_STEPS):
        if not isinstance(following, Mapping) or "$ref" not in following:
            return found
        following = pointed(following["$ref"], root)
    return None


def is_place(key: str, found: Any) -> bool:
    """Whether a step of a pointer is the number of one of a list's values."""
    # Python refuses to read a number of thousands of digits.
    is_number = key.isdecimal() and len(key) <= _MAX_DIGITS
    return isinstance(found, list) and is_number and int(key) < len(found)


def pointed(path: Any, root: Any) -> Any:
    """The target of a JSON pointer within the root; None if it is no schema."""
    if not isinstance(path, str) or not path.startswith("#"):
        return None
    if path != "#" and not path.startswith("#/"):
        return None
    found = root
    for part in path[2:].split("/") if len(path) > 1 else ():
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if is_place(key, found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            return None
    return found if isinstance(found, Mapping | bool) else None


def standalone(told: Any, root: Any) -> Any:
    """A part of a schema as a separate schema; its definitions include all that it refers to."""
    if not isinstance(told, Mapping):
        return told
    names: dict[str, str] = {}
    defined: dict[str, Any] = {}

    def moved(each: Any) -> Any:
        if isinstance(each, list):
            return [moved(one) for one in each]
        if not isinstance(each, Mapping):
            return each
        found = {key: value if key in VALUES else moved(value) for key, value in each.items()}
        if isinstance(path := each.get("$ref"), str):
            if path not in names:
                names[path] = f"d{len(names)}"
                defined[names[path]] = moved(pointed(path, root))
            found["$ref"] = f"#/$defs/{names[path]}"
        return found

    found = moved({key: each for key, each in told.items() if key not in DEFINED})
    return {**found, "$defs": defined} if defined else found
