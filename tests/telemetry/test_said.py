"""Searching what was captured: what is found, where, and what is added while one looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxdeck.telemetry.events import Content
from mlxdeck.telemetry.said import Search
from tests.streams import NAME, Stream

STREAM = Stream()


def said(request: str, value: Any, kind: str = "message") -> bytes:
    """A line that tells a part of a conversation."""
    content = msgspec.json.encode(value).decode()
    return STREAM.line(Content(kind=kind, role="user", hash="ab", content=content), 1, request)


def found(search: Search, path: Path) -> set[str]:
    """Everything that is found until the end."""
    ids, more = search.look([path])
    while more:
        again, more = search.look([path])
        ids |= again
    return ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("paris", {"one", "two"}),
        ("PARIS", {"one", "two"}),
        ('say "hi"', {"two"}),
        ("a\nb", {"two"}),
        ("größe", {"three"}),
        ("GRÖSSE", set()),
        ("text", set()),
        ("tool_use", set()),
        ("a.py", {"three"}),
        ("weather", set()),
        ("terse", {"one"}),
    ],
)
def test_texts_are_found_where_they_were_said_first(
    tmp_path: Path, text: str, ids: set[str]
) -> None:
    """Prompts, answers and arguments, but neither the names of blocks nor tools on offer."""
    path = tmp_path / NAME
    use = {"type": "tool_use", "name": "Read", "input": {"path": "src/a.py"}}
    path.write_bytes(
        b"".join(
            [
                STREAM.header(),
                said("one", ["You are terse."], "system"),
                said("one", [{"name": "get", "description": "weather"}], "tools"),
                said("one", [{"type": "text", "text": "Paris?"}]),
                said("two", [{"type": "text", "text": 'paris: a\nb, say "hi"'}], "answer"),
                b'{"event":"request.content", broken paris\n',
                said("three", [{"type": "text", "text": "die Größe"}, use]),
            ]
        )
    )
    assert found(Search(text), path) == ids


def test_what_is_added_is_found_and_what_is_gone_is_no_mistake(tmp_path: Path) -> None:
    """A file that grows, is cut and written anew, and goes."""
    path, search = tmp_path / NAME, Search("paris")
    assert found(search, path) == set()
    path.write_bytes(STREAM.header() + said("one", ["Paris"])[:-20])
    assert found(search, path) == set()
    whole = STREAM.header() + said("one", ["Paris"]) + said("two", ["paris " * 400_000])
    path.write_bytes(whole)
    assert found(search, path) == {"one", "two"}
    assert found(search, path) == set()
    os.truncate(path, 0)
    path.write_bytes(said("three", ["paris"]))
    assert found(search, path) == {"three"}
    path.unlink()
    assert found(search, path) == set()
