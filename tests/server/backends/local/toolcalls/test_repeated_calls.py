"""An answer that makes the same call a third time is ended; what stands before it stays."""

from __future__ import annotations

from typing import Any

import pytest

from mlxdeck.server.backends.local.engine.echo import EchoEngine
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.reading.markers import Markers
from mlxdeck.server.backends.local.toolcalls.reading.repeated_calls import RepeatedCalls
from mlxdeck.server.backends.local.toolcalls.splitter import Splitter
from mlxdeck.server.chat import TextDelta, ToolCallStart, ToolSpec
from tests.server.http import running

TOOLS = [ToolSpec("Read", "", {"type": "object"}), ToolSpec("Write", "", {"type": "object"})]


def call(path: str, name: str = "Read", spaces: str = "") -> str:
    """A call as the model writes it."""
    return (
        f'<tool_call>{{"name": "{name}", "arguments": {{{spaces}"path": "{path}"}}}}</tool_call>\n'
    )


def read(text: str, *, size: int = 7, **told: Any) -> tuple[list[str], str, Splitter]:
    """The names of the calls, the text, and the splitter that was fed a text in pieces."""
    splitter = Splitter(Markers(), FORMATS["json_tags"], TOOLS, **told)
    pieces = []
    for start in range(0, len(text), size):
        pieces += splitter.feed(text[start : start + size])
        if splitter.over:
            break
    else:
        pieces += splitter.close(complete=True)
    said = "".join(each.text for each in pieces if isinstance(each, TextDelta))
    return [each.name for each in pieces if isinstance(each, ToolCallStart)], said, splitter


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_third_same_call_ends_the_answer(size: int, constrained: bool) -> None:
    """Others between them don't matter, nor how the arguments are laid out; it isn't shown."""
    text = call("a") + call("b") + call("a", spaces=" ") + "Once more. " + call("a") + call("c")
    names, said, splitter = read(text, size=size, constrained=constrained)
    assert (names, said.strip()) == (["Read"] * 3, "Once more.")
    assert splitter.looped and splitter.over and not splitter.bad_calls and not splitter.broken


@pytest.mark.parametrize("constrained", [True, False])
def test_calls_that_differ_are_made_however_many(constrained: bool) -> None:
    """In a tool's name or in any of its arguments."""
    text = "".join(call(str(n)) for n in range(20)) + call("a") * 2 + call("a", "Write") * 2
    names, _, splitter = read(text, constrained=constrained)
    assert len(names) == 24 and not splitter.looped
    text = call("a") * 2 + "".join(call(f"a{n}") for n in range(5))
    assert len(read(text, constrained=constrained)[0]) == 7


def test_a_list_of_calls_is_read_up_to_the_third_same_one() -> None:
    """In the plain form, where calls are known only once the answer is over."""
    one = '{"name": "Read", "arguments": {"path": "a"}}'
    names, _, splitter = read(f"[{one}, {one}, {one}, {one}]")
    assert names == ["Read"] * 2 and splitter.looped


def test_calls_that_are_quoted_are_not_counted() -> None:
    """What turns out to be text was no call, as often as it stands there."""
    one = '{"name": "Read", "arguments": {"path": "a"}}'
    names, said, splitter = read(f"{one}\n{one}\n{one}\nThat is how a call is written.\n" * 3)
    assert names == [] and said.count(one) == 9 and not splitter.looped


def test_the_guard_can_be_turned_off() -> None:
    """Then every call is made."""
    assert len(read(call("a") * 5, loop_guard=False)[0]) == 5


def test_a_call_is_counted_by_what_it_means() -> None:
    """Not by the order of its arguments."""
    repeats = RepeatedCalls()
    assert not repeats.suspects("f")
    repeats.add("f", {"a": 1, "b": 2})
    repeats.add("f", {"b": 2, "a": 1})
    assert repeats.suspects("f") and repeats.tried().add("f", {"a": 1, "b": 2})
    assert not repeats.tried().add("f", {"a": 2, "b": 1})


async def test_it_is_told_as_a_limit() -> None:
    """With the calls so far, and with the reason in telemetry."""
    tools = [{"name": "Read", "input_schema": {"type": "object"}}]
    async with running(EchoEngine(lambda _: call("a") * 9)) as server:
        answer = (await server.ask("x", tools=tools)).json()
        assert answer["stop_reason"] == "max_tokens"
        assert [block["type"] for block in answer["content"]] == ["tool_use"] * 2
        (end,) = await server.ended(1)
        assert (end.ended_by, end.n_tool_calls, end.finish_reasons) == ("loop", 2, ("max_tokens",))
        again = await server.ask("x", tools=tools)
        assert again.headers["x-mlxdeck-cache"] == "miss"
