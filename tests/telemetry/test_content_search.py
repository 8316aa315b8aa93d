"""Searching what was captured: what is found, where, and what is added while one looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxdeck.telemetry.read.content_search import Search
from mlxdeck.telemetry.schema.events import Content, Error, RequestStart
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
        ("too LONG", {"four"}),
    ],
)
def test_texts_are_found_in_what_was_said(tmp_path: Path, text: str, ids: set[str]) -> None:
    """Prompts, answers, arguments and errors, but neither names of blocks nor tools on offer."""
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
                STREAM.line(Error(message="prompt is too long"), 1, "four"),
            ]
        )
    )
    assert found(Search(text), path) == ids


def test_later_turns_say_what_they_carry(tmp_path: Path) -> None:
    """Of what was told before, they name the hash; other requests name other ones."""
    path = tmp_path / NAME
    first = Content(kind="message", role="user", hash="aa", content='["Paris"]')
    answer = Content(kind="answer", role="assistant", content='["London"]')
    other = Content(kind="message", role="user", hash="bb", content='["Rome"]')
    path.write_bytes(
        b"".join(
            STREAM.line(attrs, 1, request)
            for request, attrs in (
                ("one", RequestStart(message_hashes=("aa",))),
                ("one", first),
                ("one", answer),
                ("two", RequestStart(message_hashes=("aa", "bb"))),
                ("two", other),
                ("three", RequestStart(message_hashes=("bb",))),
            )
        )
    )
    assert found(Search("paris"), path) == {"one", "two"}
    assert found(Search("london"), path) == {"one"}
    assert found(Search("rome"), path) == {"two", "three"}


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
