"""The corpora are what they promise: so many, always the same, and right."""

from __future__ import annotations

import ast
import json
import tomllib
from collections import Counter
from collections.abc import Callable

import jsonschema
import pytest

from mlxdeck.server.dialects.registry import DIALECTS
from tests.corpora.agent_tools import TOOLS
from tests.corpora.chats import chats
from tests.corpora.edits import edits
from tests.corpora.example import Example, fingerprint
from tests.corpora.repetitive import repetitions
from tests.corpora.source_files import LANGUAGES
from tests.corpora.tool_turns import tool_turns

Corpus = Callable[[int], list[Example]]
CORPORA: list[tuple[Corpus, int, str]] = [
    (edits, 200, "25b064cac767f2dc"),
    (chats, 50, "3c0f51eaf130ba96"),
    (tool_turns, 50, "0a592358911a4630"),
]
READERS: dict[str, Callable[[str], object]] = {
    "python": ast.parse,
    "json": json.loads,
    "toml": tomllib.loads,
}


@pytest.mark.parametrize(("corpus", "n", "expected"), CORPORA)
def test_a_seed_decides_every_byte(corpus: Corpus, n: int, expected: str) -> None:
    """As many as promised, each with a name of its own; figures of two versions can be compared.

    Who changes a corpus changes its fingerprint here, and says so where figures are compared.
    """
    examples = corpus(1)
    assert len(examples) == n == len({example.name for example in examples})
    assert fingerprint(examples) == fingerprint(corpus(1)) == expected
    assert fingerprint(corpus(2)) != expected


@pytest.mark.parametrize(("corpus", "n", "expected"), CORPORA)
def test_the_server_reads_every_request(corpus: Corpus, n: int, expected: str) -> None:
    """By its own dialect: turns in their order, and each result beside its call."""
    del n, expected
    for example in corpus(1):
        body = json.dumps(example.request).encode()
        chat = DIALECTS["anthropic"].decode(body, {})
        roles = [message.role for message in chat.messages]
        assert roles == [("user", "assistant")[n % 2] for n in range(len(roles))], example.name
        assert roles[-1] == "user"
        assert chat.history_notes == ()
        assert example.expected


@pytest.mark.parametrize("corpus", [edits, tool_turns])
def test_calls_that_are_expected_conform_to_their_tools(corpus: Corpus) -> None:
    """Name and arguments."""
    schemas = {tool["name"]: tool["input_schema"] for tool in TOOLS}
    calls = [b for each in corpus(1) for b in each.expected if b["type"] == "tool_use"]
    assert len(calls) > 40
    for call in calls:
        jsonschema.validate(call["input"], schemas[call["name"]])


def applied(example: Example) -> str:
    """The file after the answer that is expected."""
    (block,) = example.expected
    before: str = example.facts["before"]
    if block["type"] == "text":
        lines = block["text"].split("\n")
        return "\n".join([*lines[1:-1], ""])
    arguments = block["input"]
    if block["name"] == "Write":
        return str(arguments["content"])
    assert arguments.get("replace_all") or before.count(arguments["old_string"]) == 1
    return before.replace(arguments["old_string"], arguments["new_string"])


def test_edits_end_in_the_edited_file() -> None:
    """Whichever way they are made; it is another file, and one that its language can read."""
    for example in edits():
        assert applied(example) == example.facts["after"] != example.facts["before"], example.name
        reader = READERS.get(example.facts["language"], str)
        reader(example.facts["after"])


def test_edited_files_stand_in_the_prompt_almost_whole() -> None:
    """What prompt lookup lives on: all but a few lines of an answer were read before."""
    shares = []
    for example in edits():
        if example.facts["way"] != "edit":
            known = set(json.dumps(example.request, ensure_ascii=False).split("\\n"))
            known |= {line.split("\\t", 1)[-1] for line in known}
            lines = json.dumps(example.facts["after"], ensure_ascii=False)[1:-1].split("\\n")
            shares.append(sum(line in known for line in lines) / len(lines))
    assert len(shares) == 130
    assert min(shares) > 0.6
    assert sum(shares) / len(shares) > 0.95


def test_edits_are_of_every_kind_in_every_language() -> None:
    """Twelve languages, seven kinds, three ways; files of 15 to 400 lines."""
    facts = [example.facts for example in edits()]
    languages = Counter(fact["language"] for fact in facts)
    assert set(languages) == set(LANGUAGES)
    assert min(languages.values()) >= 16
    kinds = Counter((fact["kind"]) for fact in facts)
    assert set(kinds) == {"fix", "rename", "insert", "remove", "comment", "constant", "move"}
    assert min(kinds.values()) >= 20
    assert Counter(fact["way"] for fact in facts) == {"whole": 80, "edit": 70, "write": 50}
    lengths = [fact["before"].count("\n") for fact in facts]
    assert min(lengths) < 20 < 300 < max(lengths)


def test_each_turn_of_an_agent_begins_with_the_one_before() -> None:
    """As a client sends a conversation: what was said is said again, to the last byte."""
    for before, after in zip(tool_turns()[:-1], tool_turns()[1:], strict=True):
        if after.facts["turn"]:
            known = before.request["messages"]
            assert after.request["messages"][: len(known)] == known
            assert after.request["messages"][len(known)]["content"] == before.expected


def test_texts_that_repeat_say_what_they_are() -> None:
    """Each is the same for the same seed, and long enough that a guard could take it for a loop."""
    told = repetitions()
    assert told == repetitions()
    assert len({each.name for each in told}) == len(told) >= 36
    for each in told:
        assert len(each.what) > 10
        assert len(each.text) > 300, each.name
    assert {"table", "rulers", "sql", "hundred_zeros"} <= {each.name for each in told}
