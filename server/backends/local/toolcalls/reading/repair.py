"""Repairs models' errors in the arguments of a call: values of another type, single backslashes."""

from __future__ import annotations

import re
from typing import Any

from mlxdeck.server.schemas.shape import Schema
from mlxdeck.server.schemas.values import fitted

_PART = r"[\w.$~%@+-]*"
RUN_CHARS = re.compile(r"[\\\w.$~%@+-]+")
"""The text that may follow a drive's name in a path with single backslashes."""
_ABSOLUTE = re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))[A-Za-z]:(?:\\{_PART})+")
# Evidently paths: what could as well be a text with a line feed in it is left alone.
_WHOLE = re.compile(
    r"[A-Za-z]:\\\w[^\n]+"
    r"|\\\\[\w.-]{2,}(?:\\[\w.$ -]{2,}){2,}"
    r"|[\w.-]{2,}(?:\\[\w.-]{2,})*\\[\w-]{2,}\.[A-Za-z0-9]{1,8}"
)
_NAMES_PATH = re.compile(
    r"(?i:(?:^|[_-])(?:path|file|filename|filepath|dir|directory|cwd|folder|root))$|Path$|Dir$"
)
_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})")
_LONE_END = re.compile(r"(?<!\\)(?:\\\\)*\\$")
_FILE = re.compile(r"(?:\\[\w.-]{2,}){2,}\.[A-Za-z0-9]{1,8}")
_PAIR = re.compile(r"\\.", re.DOTALL)


def coerced(value: Any, schema: Any) -> Any:
    """The value with texts converted to the types of a schema, where that fits."""
    return fitted(value, Schema.of(schema))


def names_path(name: str) -> bool:
    """Whether a parameter of that name is a path."""
    return bool(_NAMES_PATH.search(name))


def path_mended(raw: str) -> str:
    """The text of a path in JSON, its backslashes doubled if none of them is."""
    pairs = _PAIR.findall(raw, 2 if raw.startswith("\\\\") else 0)
    if not pairs or "\\\\" in pairs or not _WHOLE.fullmatch(raw):
        return raw
    return _doubled(raw, share=raw.startswith("\\\\"))


def run_mended(run: str, *, whole: bool = False) -> str:
    """What follows a drive in other text: only where it can't be JSON as it is.

    Also if it is the `whole` text and looks like nothing else.
    """
    if "\\" in _ESCAPE.sub("", run) or (whole and _FILE.fullmatch(run)):
        return _doubled(run)
    return run


def runs_mended(raw: str) -> str:
    """JSON with all such paths in it repaired."""
    return _ABSOLUTE.sub(lambda found: run_mended(found[0]), raw)


def _doubled(raw: str, *, share: bool = False) -> str:
    """Every backslash that means itself as JSON writes it."""
    kept = ("\\\\", '\\"', "\\'")
    doubled = _PAIR.sub(lambda found: found[0] if found[0] in kept else f"\\{found[0]}", raw)
    return ("\\\\" if share else "") + doubled + ("\\" if _LONE_END.search(raw) else "")
