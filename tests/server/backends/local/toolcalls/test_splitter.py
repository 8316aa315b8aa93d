"""A model's text into events: markers at any place, calls whole or broken, stop sequences."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.reading.call_emitter import Piece
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import TextDelta, ToolCallDelta, ToolCallEnd, ToolCallStart, ToolSpec
from tests.server.backends.local.toolcalls.summary import Summary, summary

TOOLS = (
    ToolSpec("Read", "Reads a file.", {"type": "object", "properties": {"path": {}}}),
    ToolSpec("Now", "Tells the time.", {"type": "object"}),
)
THINK = Markers("<think>", "</think>")


def split(
    chunks: list[str],
    *,
    markers: Markers = THINK,
    tools: tuple[ToolSpec, ...] = TOOLS,
    complete: bool = True,
    thinking: bool = False,
) -> tuple[Summary, Splitter]:
    """Feed chunks and close."""
    splitter = Splitter(markers, FORMATS["json_tags"], tools, thinking=thinking)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    pieces += splitter.close(complete=complete)
    return summary(pieces), splitter


READ = '<tool_call>{"name": "Read", "arguments": {"path": "a.py"}}</tool_call>'
CASES: list[tuple[str, Summary]] = [
    ("Hello.", [("text", "Hello.")]),
    ("a < b and <b> </b> <tool", [("text", "a < b and <b> </b> <tool")]),
    ("<think>why\n</think>\n\nBecause.", [("thinking", "why\n"), ("text", "Because.")]),
    (READ, [("Read", {"path": "a.py"})]),
    (f"I read it.\n{READ}", [("text", "I read it.\n"), ("Read", {"path": "a.py"})]),
    (f"{READ}\n{READ}", [("Read", {"path": "a.py"}), ("Read", {"path": "a.py"})]),
    (
        '<tool_call>{"name": "Now"}\n{"name": "Read", "arguments": {"path": "b"}}</tool_call>',
        [("Now", {}), ("Read", {"path": "b"})],
    ),
    (
        '<tool_call>\n{"name": "Read", "arguments": {"path": "two\nlines"}}\n</tool_call>',
        [("Read", {"path": "two\nlines"})],
    ),
    ("<tool_call>oops</tool_call> sorry", [("text", "<tool_call>oops</tool_call> sorry")]),
    (
        '<tool_call>{"name": "Delete", "arguments": {}}</tool_call>',
        [("text", '<tool_call>{"name": "Delete", "arguments": {}}</tool_call>')],
    ),
    (
        '<tool_call>{"name": "Read", "arguments": {"path": "end of answer"}}',
        [("Read", {"path": "end of answer"})],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_the_same_events_come_out_however_the_text_is_cut(text: str, expected: Summary) -> None:
    """One piece, character by character, and cut in two at every place give one result."""
    assert split([text])[0] == expected
    assert split(list(text))[0] == expected
    for cut in range(1, len(text)):
        assert split([text[:cut], text[cut:]])[0] == expected


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_an_answer_cut_off_anywhere_invents_nothing(text: str) -> None:
    """Truncated by the token limit at any place: only whole calls, and no text is lost."""
    whole = split([text])[0]
    for end in range(len(text)):
        got, _ = split([text[:end]], complete=False)
        calls = [each for each in got if each[0] in {"Read", "Now"}]
        assert calls == [each for each in whole if each[0] in {"Read", "Now"}][: len(calls)]
        if not calls and "think" not in text:
            lost = text[:end].lstrip("\n").removeprefix("".join(str(part) for _, part in got))
            assert "<tool_call>".startswith(lost.strip())


def test_text_that_cannot_be_a_marker_is_sent_at_once() -> None:
    """Only the part that may still become a marker is held back."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS)
    assert list(splitter.feed("See <too")) == [TextDelta("See ")]
    assert list(splitter.feed("ls> here")) == [TextDelta("<tools> here")]


def test_lines_that_come_together_go_out_together() -> None:
    """One piece of text is one event, although lines are looked at one by one."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS)
    assert splitter.feed("one\ntwo\nthree") == [TextDelta("one\ntwo\nthree")]


@pytest.mark.parametrize("name", ["Read", "Read1", "Read1999", "R", "Now", "Read20", "Reads", "Q"])
@pytest.mark.parametrize("after", ['({"path": "a"})', "", " it.", "`"])
def test_a_bare_call_is_found_among_thousands_of_names(name: str, after: str) -> None:
    """Whichever of them begin in the same way, and however the text is cut."""
    tools = (*TOOLS, *(ToolSpec(f"Read{n}", "", {"type": "object"}) for n in range(2_000)))
    offered = {tool.name for tool in tools}
    expected: Summary = [("text", name + after)]
    if name in offered and "(" in after:
        expected = [(name, {"path": "a"})]
    elif name in offered and after in ("", "`"):
        expected = [(name, {})]
    text = name + after
    for chunks in ([text], list(text), [text[:1], text[1:]], [name, after]):
        assert split(chunks, tools=tools)[0] == expected


def test_without_tools_the_marker_is_plain_text() -> None:
    """Nobody offered a tool, so nothing is a call."""
    assert split([READ], tools=())[0] == [("text", READ)]


def test_a_bad_call_is_counted_with_its_reason() -> None:
    """What could not be read is reported, without its content."""
    _, splitter = split(["<tool_call>secret</tool_call>"])
    (bad,) = splitter.bad_calls
    assert bad.error == "a call was expected"
    assert bad.n_bytes == len("<tool_call>")
    assert "secret" not in repr(bad)


@pytest.mark.parametrize(
    ("escaped", "value"),
    [
        ("\\ud800 ✓", "\ufffd ✓"),
        ("\\udc00\\ud83d", "\ufffd\ufffd"),
        ("a\\ud83d\\ude00", "a😀"),
        ("\\ud83d\\n", "\ufffd\n"),
    ],
)
def test_half_a_surrogate_pair_is_no_character(escaped: str, value: str) -> None:
    """What a model escapes wrongly would be refused wherever it is sent next."""
    raw = '<tool_call>{"name": "Read", "arguments": {"path": "\u007f"}}</tool_call>'
    for chunks in ([raw.replace("\x7f", escaped)], list(raw.replace("\x7f", escaped))):
        splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS)
        pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
        (delta,) = [piece for piece in pieces if isinstance(piece, ToolCallDelta)]
        assert delta.json.encode() and json.loads(delta.json) == {"path": value}
        (end,) = [piece for piece in pieces if isinstance(piece, ToolCallEnd)]
        assert end.repaired == ("\ufffd" in value)


def test_a_prompt_that_opened_thinking_starts_in_it() -> None:
    """Templates that write the opening tag themselves leave only the closing one to the model."""
    got, _ = split(["so</think>Yes"], thinking=True)
    assert got == [("thinking", "so"), ("text", "Yes")]


@pytest.mark.parametrize("text", ["one STOP two", "one STO", "STOP", "ST STOP"])
def test_a_stop_sequence_ends_the_answer_before_it(text: str) -> None:
    """Nothing of the sequence, and nothing after it, is sent."""
    stops = Markers(stops=("STOP", "never"))
    for chunks in ([text], list(text)):
        got, splitter = split(chunks, markers=stops)
        assert "".join(str(part) for _, part in got) == text.split("STOP")[0]
        assert splitter.stopped_by == ("STOP" if "STOP" in text else None)


def live(text: str, *, complete: bool = True) -> tuple[list[Piece], Splitter]:
    """One character at a time, as from a model that is held to the tools' schemas."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS, constrained=True)
    pieces = [piece for char in text for piece in splitter.feed(char)]
    return [*pieces, *splitter.close(complete=complete)], splitter


def test_arguments_stream_where_they_cannot_go_wrong() -> None:
    """The call begins with its name, and its text goes out as it comes."""
    pieces, _ = live(READ)
    assert summary(pieces) == [("Read", {"path": "a.py"})]
    deltas = [piece for piece in pieces if isinstance(piece, ToolCallDelta)]
    assert len(deltas) >= len("a.py")
    (end,) = [piece for piece in pieces if isinstance(piece, ToolCallEnd)]
    assert (end.constrained, end.repaired, end.schema_valid) == (True, False, True)


def test_arguments_are_kept_until_whole_where_they_can_go_wrong() -> None:
    """What turns out to be no call has to come out as text."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS)
    assert [splitter.feed(char) for char in READ.removesuffix("}}</tool_call>")][-1] == []
    assert summary(splitter.feed("}}</tool_call>")) == [("Read", {"path": "a.py"})]


def test_half_a_streamed_call_has_no_end() -> None:
    """Cut off by the token limit: what was sent stays, and nothing is made up."""
    pieces, splitter = live(READ[:-20], complete=False)
    assert isinstance(pieces[0], ToolCallStart)
    assert not any(isinstance(piece, ToolCallEnd | TextDelta) for piece in pieces)
    assert splitter.n_calls == 0 and not splitter.broken


def test_a_streamed_call_that_breaks_off_ends_the_answer() -> None:
    """It can't be taken back, and must not look whole."""
    pieces, splitter = live('<tool_call>{"name": "Read", "arguments": {"path": "a" oops')
    assert splitter.broken == "not JSON: a comma was expected" and splitter.over
    assert not any(isinstance(piece, ToolCallEnd) for piece in pieces)


def test_one_call_is_enough_where_parallel_ones_are_not_wanted() -> None:
    """The answer is over with it."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS, parallel=False)
    splitter.feed(READ.removesuffix("}</tool_call>"))
    assert not splitter.over
    splitter.feed("}")
    assert splitter.over


def test_thinking_that_was_not_asked_for_is_dropped() -> None:
    """The answer behind it is not; an empty block is none."""
    splitter = Splitter(THINK, FORMATS["json_tags"], (), shows_thinking=False)
    assert summary(splitter.feed("<think>hm</think>\n\nYes")) == [("text", "Yes")]
    splitter = Splitter(THINK, FORMATS["json_tags"], ())
    assert summary(splitter.feed("<think>\n\n</think>\n\nYes")) == [("text", "Yes")]


def test_a_loose_tools_calls_are_kept_until_they_are_whole() -> None:
    """And mended, although the other tools' calls stream."""
    splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS, constrained=True, loose=("Read",))
    pieces = [piece for char in READ.replace("}}<", ",}}<") for piece in splitter.feed(char)]
    assert summary(pieces) == [("Read", {"path": "a.py"})]
    (end,) = [piece for piece in pieces if isinstance(piece, ToolCallEnd)]
    assert (end.constrained, end.repaired) == (False, True)


def test_a_call_that_the_client_has_begun_has_a_start() -> None:
    """What was given is not said again, but for the call that it has left open."""
    begun = f'{READ} So: <tool_call>{{"name": "Read", "arguments": {{"path": "b'
    for constrained in (True, False):
        splitter = Splitter(THINK, FORMATS["json_tags"], TOOLS, constrained=constrained)
        pieces = [*splitter.begin(begun), *splitter.feed('.py"}}</tool_call>')]
        assert summary(pieces) == [("Read", {"path": "b.py"})]
    assert splitter.begin(READ) == []


def test_letters_that_come_one_by_one_are_sent_as_they_come() -> None:
    """A string may be cut off before the next longer piece; what the model wrote is not lost."""
    read = ToolSpec("Write", "", {"type": "object", "properties": {"text": {"type": "string"}}})
    splitter = Splitter(Markers(), FORMATS["json_tags"], [read], constrained=True)
    splitter.feed('<tool_call>{"name": "Write", "arguments": {"text": "')
    sent = [splitter.feed(letter) for letter in "abc"]
    assert sent == [[ToolCallDelta(letter)] for letter in "abc"]
    assert splitter.close(complete=False) == []


A, B = (
    f'<tool_call>{{"name": "Read", "arguments": {{"path": "{name}"}}}}</tool_call>' for name in "ab"
)
STANDING: dict[str, tuple[str, Summary]] = {
    "thinking never ends": (f"<think>hm {A}", [("thinking", "hm "), ("Read", {"path": "a"})]),
    "several calls": (f"<think>{A}\n{B}", [("Read", {"path": "a"}), ("Read", {"path": "b"})]),
    "thinking ends": (f"<think>{A} so</think>Yes", [("thinking", f"{A} so"), ("text", "Yes")]),
    "no tool of ours": (
        "<think><tool_call>{}</tool_call>", [("thinking", "<tool_call>{}</tool_call>")],
    ),
    "a mention of the tags": (
        "Say <think>so</think> then.", [("text", "Say <think>so</think> then.")],
    ),
    "a mention in code": ("Use `<think>`. Ok.", [("text", "Use `<think>`. Ok.")]),
    "a mention of the end": ("Close with </think>, ok?", [("text", "Close with </think>, ok?")]),
    "an end alone": ("</think>\n\nHello", [("text", "Hello")]),
    "an end behind a text": ("So.\n</think>\n\nYes", [("text", "So.\n\n\nYes")]),
    "thinking behind a call": (
        f"{A}<think>hm</think>Yes", [("Read", {"path": "a"}), ("thinking", "hm"), ("text", "Yes")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), STANDING.values(), ids=STANDING)
def test_where_a_tag_stands_decides_what_it_is(text: str, expected: Summary) -> None:
    """However it is cut."""
    assert split([text])[0] == expected
    for cut in range(1, len(text)):
        assert split([text[:cut], text[cut:]])[0] == expected
    assert split(list(text))[0] == expected


def test_a_call_in_thinking_that_was_cut_off_is_none() -> None:
    """Nobody knows whether it would have ended."""
    assert split([f"<think>{A}"], complete=False)[0] == [("thinking", A)]


PIECES = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", A, B, "```\n", "\n```\n", "`", "\n"]
    + ["<function=Read>", "</function>", "<tools>", '{"name": "Now"}', "so ", "x", "<", "STO"]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.booleans(), st.data())
def test_nothing_of_an_answer_is_lost_or_said_twice(
    text: str, complete: bool, data: st.DataObject
) -> None:
    """Its words come out once and in their order, its calls as calls or as what they are."""
    cut = data.draw(st.integers(0, len(text)))
    got, splitter = split([text], complete=complete)
    assert split([text[:cut], text[cut:]], complete=complete)[0] == got
    assert split(list(text), complete=complete)[0] == got
    # A call that comes a third time is for the loop guard, which ends the answer.
    assume(not splitter.looped)
    words = "".join(str(part) for kind, part in got if kind in ("text", "thinking"))
    assert re.findall("so|x", words) == re.findall("so|x", text)
    for path in "ab":
        n_said = words.count(f'"{path}"') + got.count(("Read", {"path": path}))
        assert n_said == text.count(f'"{path}"')
    # It may also be an argument of another call.
    called = "".join(str(each) for each in got if each[0] not in ("text", "thinking"))
    assert words.count("Now") + called.count("Now") == text.count("Now")


@pytest.mark.parametrize("stop", ["a", "<", "l", "tool", "call>\n", "}", "\n\n", "<think", ">x"])
@pytest.mark.parametrize(
    "text", [READ, f"So:\n\n{READ}", "<think>a\n</think>\n\nB", "x <tool_ca> l", "<think", "a<"]
)
def test_a_stop_sequence_inside_a_marker_stops_nothing(text: str, stop: str) -> None:
    """However the text is cut: what begins first counts, also while it is not whole."""
    markers = Markers("<think>", "</think>", (stop,))
    whole, splitter = split([text], markers=markers)
    letters, other = split(list(text), markers=markers)
    assert letters == whole
    assert other.stopped_by == splitter.stopped_by
    if text == READ:
        assert whole == [("Read", {"path": "a.py"})]


@pytest.mark.parametrize("rest", ["", "<", "</", "\n<", "\n</tool_cal"])
def test_half_a_closing_tag_behind_a_call_is_no_text(rest: str) -> None:
    """The token limit cut it off, be it behind its first character."""
    text = "<tool_call>\n<function=Now>\n</function>"
    splitter = Splitter(THINK, FORMATS["qwen3_coder"], TOOLS)
    pieces = [*splitter.feed(text + rest), *splitter.close(complete=False)]
    assert summary(pieces) == [("Now", {})]


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    ("before", "n_bad"),
    [("", 0), ("<tool_call>", 0), ("Say <tool_call> or <tool_call> so: ", 2)],
)
def test_a_start_that_begins_no_call_hides_none_behind_it(
    before: str, n_bad: int, step: int
) -> None:
    """What it has taken for the head of a call is looked at again; the rest of it is text."""
    splitter = Splitter(Markers(), FORMATS["json_tags"], TOOLS)
    text = before + READ
    pieces: list[Piece] = []
    for at in range(0, len(text), step or len(text)):
        pieces += splitter.feed(text[at : at + (step or len(text))])
    pieces += splitter.close(complete=True)
    assert splitter.n_calls == 1 and len(splitter.bad_calls) == n_bad
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    assert said == (before if n_bad else "")


def test_a_call_inside_the_arguments_of_a_failed_one_is_none() -> None:
    """It is somebody's payload."""
    inner = READ.replace('"', '\\"')
    text = f'<tool_call>{{"name": "Nope", "arguments": {{"x": "{inner}"}}}}</tool_call>'
    splitter = Splitter(Markers(), FORMATS["json_tags"], TOOLS)
    pieces = [*splitter.feed(text), *splitter.close(complete=True)]
    assert pieces == [TextDelta(text)]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "{call}",
        "{call} w {call}",
        "{calls}",
        "{call}a{calls} b ",
        "{call} c </think> d ",
        "{call} _{{( e ",
    ],
)
def test_a_stray_marker_of_a_section_hides_no_section(before: str) -> None:
    """DeepSeek's and Kimi's calls stand in sections, whose parts may also stand alone."""
    calls, call = "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"
    end, sep, over = "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁calls▁end｜>"
    read = f'{call}Read{sep}{{"path": "a"}}{end}'
    text = before.format(call=call, calls=calls) + f"{calls}{read}{read}{over}"
    splitter = Splitter(Markers(), FORMATS["deepseek_v31"], TOOLS, constrained=True)
    pieces = [piece for letter in text for piece in splitter.feed(letter)]
    pieces += splitter.close(complete=True)
    ends = [piece for piece in pieces if isinstance(piece, ToolCallEnd)]
    assert [end.constrained for end in ends] == [True, True]
