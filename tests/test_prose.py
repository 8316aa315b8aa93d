"""What people read: short sentences in the documents and in `--help`, without private idioms."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from mlxdeck.cli import main

ROOT = Path(__file__).parent.parent
MAX_WORDS = 25
"""The limit of simplified technical English for descriptive text."""

NAMES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md")
PAGES = sorted(
    [*(ROOT / name for name in NAMES if (ROOT / name).exists()), *ROOT.glob("docs/*.md")]
)

IDIOMS = re.compile(
    r"\b(said|told|held to|lets? go|whoever|whatever|gone|vault|kin|of late|anew|mend(ed|s)?|"
    r"(in|of) (other|both|its|all) ways?|what is|what was|round in circles|comes? to|"
    r"to blame|joins? its flight|as (it|they) stands?)\b",
    re.IGNORECASE,
)
"""Words with a private meaning. The field says: recorded, constrained, released, repaired."""


def blocks(page: str) -> Iterator[str]:
    """Texts of a Markdown page: paragraphs, list items, headings and table cells; no code."""
    page = re.sub(r"(?ms)^```.*?^```$", "", page)
    # A picture or a rule has no text; an indented block after an empty line is code.
    page = re.sub(r"(?m)^(!\[|\|[-| :]+\|$).*$", "", page)
    page = re.sub(r"(?m)(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", "\n", page)
    page = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", page)
    page = re.sub(r"`[^`\n]*`", "CODE", page)
    for block in re.split(r"\n\s*\n|\n(?=[-*|#] |[0-9]+\. )|(?<=\|)\n", page):
        text = re.sub(r"^\s*(?:[-*]|#+|[0-9]+\.)\s+", "", block).strip()
        yield from text.strip("|").split(" | ") if text.startswith("|") else [text]


def sentences(text: str) -> Iterator[str]:
    """The sentences of one block: they end at a full stop, a question or an exclamation mark."""
    text = " ".join(text.replace("**", "").split())
    yield from filter(None, re.split(r"(?<=[.!?])[)\"]?\s+(?=[\"(]?[A-Z0-9-])", text))


def n_words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


def help_texts() -> Iterator[tuple[str, str]]:
    """Every text of every command's `--help`, with its place."""
    commands = next(
        action
        for action in main.build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for command, parser in commands.choices.items():
        yield command, parser.description or ""
        for action in parser._actions:
            if action.help and action.help != argparse.SUPPRESS:
                name = max(action.option_strings, key=len, default=action.dest)
                # argparse adds the default itself: it is no part of the sentence.
                yield f"{command} {name}", re.sub(r"\(default: [^)]*\)$", "", action.help)
    for command in main.COMMANDS:
        yield f"cli/{command}.py", import_module(f"mlxdeck.cli.{command}").__doc__ or ""


def too_long(text: str) -> list[str]:
    return [each for each in sentences(text) if n_words(each) > MAX_WORDS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_sentences_of_a_page_have_at_most_25_words(page: Path) -> None:
    """A longer sentence has to be read twice: split it, or make it a list."""
    found = [each for text in blocks(page.read_text("utf-8")) for each in too_long(text)]
    assert not found, "\n".join(found)


def test_sentences_of_help_have_at_most_25_words() -> None:
    """The descriptions of commands, arguments and settings too."""
    found = [f"{place}: {each}" for place, text in help_texts() for each in too_long(text)]
    assert not found, "\n".join(found)


def test_readme_and_help_use_the_words_of_the_field() -> None:
    """A reader should not have to decode idioms of the house."""
    texts = [("README.md", text) for text in blocks((ROOT / "README.md").read_text("utf-8"))]
    found = [
        f"{place}: {idiom[0]!r} in {text.strip()[:90]!r}"
        for place, text in [*texts, *help_texts()]
        if (idiom := IDIOMS.search(text))
    ]
    assert not found, "\n".join(found)


def test_sentences_are_found_in_lists_tables_and_paragraphs_but_not_in_code() -> None:
    """A reader that found none would let everything pass."""
    page = (
        "# Title\n\nOne. Two `a. B` of\nthree!\n\n![x](y)\n\n    code here. More\n\n"
        "- item one\n- item two\n  goes on. Ends\n\n| a | b. C |\n| --- | --- |\n| d | e |\n"
    )
    found = [each.strip() for text in blocks(page) for each in sentences(text)]
    assert found == [
        *("Title", "One.", "Two CODE of three!", "item one", "item two goes on.", "Ends"),
        *("a", "b.", "C", "d", "e"),
    ]
    assert too_long("word " * 25 + "word.") and not too_long("word. Word " * 25)
