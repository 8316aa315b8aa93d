"""What an answer is held to, for every choice that a client has."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import (
    LEAST,
    MAX_WORK,
    TRY_WORK,
    ConstraintPlan,
    plan_constraint,
)
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.backends.local.toolcalls.formats.tool_format import ToolFormat
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text, ToolChoice, ToolSpec
from mlxdeck.server.checkpoints import Abandoned, run_until
from mlxdeck.server.errors import BadRequest
from tests.hostile import SCHEMAS

TOOLS = tuple(ToolSpec(name, "", {"type": "object"}) for name in ("Read", "Write"))
FORM = FORMATS["json_tags"]


class Willing:
    """Holds answers to any grammar but one with a word in it."""

    def __init__(self, refused: str = "\0") -> None:
        self.refused = refused

    def check(self, grammar: str, already: str = "") -> str:
        if already.startswith("Sure"):
            return "no beginning"
        return "too hard\nand more" if self.refused in grammar else ""


def held(
    choice: ToolChoice,
    *,
    tools: tuple[ToolSpec, ...] = TOOLS,
    schema: dict[str, Any] | None = None,
    form: ToolFormat = FORM,
    refused: str = "\0",
    thinking: bool = False,
    begun: str = "",
) -> ConstraintPlan:
    """What a request of that kind is held to."""
    request = ChatRequest(
        "m", (), (Message("user", (Text("Hi"),)),), Sampling(9), tools, choice, answer_schema=schema
    )
    return plan_constraint(
        request,
        form,
        Willing(refused),
        begun=begun,
        thinking=("<think>", "</think>"),
        in_thinking=thinking,
    )


def grammar(found: ConstraintPlan) -> str:
    """The grammar, which has to be there."""
    assert found.constraint is not None
    return found.constraint.grammar


def test_a_forced_call_is_the_whole_answer() -> None:
    """Any tool, or the one that is named; behind the thinking that the prompt has opened."""
    both = held(ToolChoice("any"), thinking=True)
    assert both.constraint is not None
    assert (both.constraint.trigger, both.constraint.final) == ("</think>", True)
    assert "Read" in grammar(both) and "Write" in grammar(both)
    one = grammar(held(ToolChoice("tool", "Read")))
    assert "Read" in one and "Write" not in one and FORM.starts[0] in one


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_free_answer_is_held_where_a_call_begins(form: ToolFormat) -> None:
    """And let go at its end."""
    constraint = held(ToolChoice(), form=form).constraint
    assert constraint is not None
    assert constraint.trigger == (form.trigger or form.starts[0]) and not constraint.final
    assert form.starts[0] not in constraint.grammar.split("\n")[0] or form.trigger


def test_a_begun_call_is_held_from_where_it_is() -> None:
    """What the client has written of the answer may have opened one."""
    constraint = held(ToolChoice("any"), begun='So: <tool_call>\n{"name": "Re').constraint
    assert constraint is not None
    assert constraint.already == '\n{"name": "Re'
    assert constraint.trigger == FORM.starts[0]
    # It is the one call that is demanded; elsewhere the answer goes on.
    assert constraint.final
    free = held(ToolChoice(), begun='So: <tool_call>\n{"name": "Re').constraint
    assert free is not None and not free.final


def test_a_forced_call_comes_behind_what_the_client_has_begun() -> None:
    """Also where that ends within the start of one."""
    behind = held(ToolChoice("any"), begun="Let me see").constraint
    assert behind is not None and (behind.already, behind.trigger) == (None, "")
    half = held(ToolChoice("any"), begun="Let me see <tool_").constraint
    assert half is not None and half.already == "<tool_" and half.final


def test_json_that_was_begun_is_held_from_where_it_is() -> None:
    """However it is set; what is no beginning of it is refused."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    begun = held(ToolChoice(), tools=(), schema=schema, begun='{"city":').constraint
    assert begun is not None and begun.already == '{"city":' and begun.final
    with pytest.raises(BadRequest, match="not the beginning"):
        held(ToolChoice(), tools=(), schema=schema, begun="Sure:")


def test_json_of_a_schema_is_the_whole_answer_or_a_call() -> None:
    """With tools on offer, either."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    alone = grammar(held(ToolChoice(), tools=(), schema=schema))
    assert "city" in alone and FORM.starts[0] not in alone
    either = held(ToolChoice(), schema=schema)
    assert "city" in grammar(either) and FORM.starts[0] in grammar(either)
    assert either.constraint is not None and either.constraint.final


def test_json_of_a_schema_is_never_dropped_in_silence() -> None:
    """A model that can't be held to any grammar refuses the request, and says why."""
    with pytest.raises(BadRequest, match="can't be constrained to a JSON schema: too hard"):
        held(ToolChoice(), tools=(), schema={"type": "object"}, refused="start")


def test_one_schema_that_is_too_hard_loosens_its_own_tool_alone() -> None:
    """It is held to types and names, and telemetry learns why."""
    hard = {"type": "object", "properties": {"a": {"type": "string", "uniqueNames": "too hard"}}}
    found = held(ToolChoice(), tools=(*TOOLS, ToolSpec("Hard", "", hard)), refused="uniqueNames")
    assert found.loose == {"Hard": "too hard"} and not found.refused
    assert "Hard" in grammar(found) and "Read" in grammar(found)
    assert '"type": "string"' in grammar(found)


def test_nothing_is_held_without_tools_or_against_the_engine() -> None:
    """Why not is told, in one line."""
    assert held(ToolChoice("none"), tools=()) == ConstraintPlan()
    assert held(ToolChoice(), refused="Read") == ConstraintPlan(refused="too hard")
    odd = ToolSpec("Odd", "", {"type": "object", "anyOf": [{"required": ["a"]}]})
    found = held(ToolChoice(), tools=(odd,), form=FORMATS["qwen3_coder"])
    assert "Odd" in grammar(found)


def test_schemas_that_are_too_much_together_give_way_by_size() -> None:
    """The largest first, down to the names of their parameters."""

    class Narrow(Willing):
        def check(self, grammar: str, already: str = "") -> str:
            return "too many items" if grammar.count("maxLength") > 40 else ""

    small = {f"p{n}": {"type": "string", "maxLength": 100 + n} for n in range(4)}
    large = {f"p{n}": {"type": "string", "maxLength": n} for n in range(38)}
    tools = [ToolSpec("Small", "", {"type": "object", "properties": small})]
    tools += [ToolSpec("Large", "", {"type": "object", "properties": large})]
    request = ChatRequest(
        "m", (), (Message("user", (Text("Hi"),)),), Sampling(9), tuple(tools), ToolChoice("any")
    )
    found = plan_constraint(request, FORM, Narrow())
    assert found.loose == {"Large": "too many items"}
    assert '\\"p37\\"' in grammar(found) and grammar(found).count('"maxLength": 10') == 4


class Unwilling(Willing):
    """Takes no grammar but that of any object, and counts what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.n_tried = 0

    def check(self, grammar: str, already: str = "") -> str:
        self.n_tried += grammar != LEAST
        return "too hard" if "wanted" in grammar else ""


def test_what_is_tried_for_one_request_has_an_end() -> None:
    """However many tools there are: then each is held to its name alone, and it is told why."""
    named = {f"wanted{n}": {"type": "string"} for n in range(40)}
    schema = {"type": "object", "properties": named}
    tools = tuple(ToolSpec(f"t{n}", "", schema) for n in range(400))
    request = ChatRequest("m", (), (Message("user", (Text("Hi"),)),), Sampling(9), tools)
    grammars = Unwilling()
    found = plan_constraint(request, FORM, grammars)
    assert found.constraint is not None
    assert grammars.n_tried <= MAX_WORK // TRY_WORK
    assert found.loose.keys() == {tool.name for tool in tools}
    assert any("too long" in why for why in found.loose.values())


@pytest.mark.parametrize("name", ["3,000 properties", "large multiples", "enum of 20,000"])
def test_a_tool_that_costs_too_much_is_loosened_untried(name: str) -> None:
    """It alone, and the limit is told."""
    tools = (ToolSpec("t", "", SCHEMAS[name]), ToolSpec("u", "", {"type": "object"}))
    request = ChatRequest("m", (), (Message("user", (Text("Hi"),)),), Sampling(9), tools)
    grammars = Unwilling()
    found = plan_constraint(request, FORM, grammars)
    assert grammars.n_tried == 1
    assert [*found.loose] == ["t"]
    assert any(char.isdigit() for char in found.loose["t"])


@pytest.mark.parametrize("name", ["anyOf of 60 in anyOf of 60", "40 refs, objects"])
def test_no_grammar_is_composed_twice_for_one_request(name: str) -> None:
    """A schema that is loosened in vain is recognised before it is composed again."""

    class Refusing(Unwilling):
        def check(self, grammar: str, already: str = "") -> str:
            seen.append(grammar)
            return "too hard" if len(grammar) > 1_000 else ""

    seen: list[str] = []
    request = ChatRequest(
        "m", (), (Message("user", (Text("Hi"),)),), Sampling(9), answer_schema=SCHEMAS[name]
    )
    assert plan_constraint(request, FORM, Refusing()).loose == {"": "too hard"}
    assert sum(len(grammar) > 1_000 for grammar in seen) == 1


def test_an_engine_without_grammars_has_none_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the schema; only JSON that has to conform is refused."""

    class Unable:
        def check(self, grammar: str, already: str = "") -> str:
            return "not here"

    monkeypatch.setattr(type(FORM), "grammar", lambda *_, **__: pytest.fail("it was composed"))
    hi = (Message("user", (Text("Hi"),)),)
    for choice in (ToolChoice(), ToolChoice("any")):
        request = ChatRequest("m", (), hi, Sampling(9), TOOLS, choice)
        assert plan_constraint(request, FORM, Unable()) == ConstraintPlan(refused="not here")
    with pytest.raises(BadRequest, match="not here"):
        asked = ChatRequest("m", (), hi, Sampling(9), answer_schema={"type": "object"})
        plan_constraint(asked, FORM, Unable())


def test_nobody_waits_so_no_more_is_tried() -> None:
    """A client that has left doesn't keep the prompt thread compiling."""
    given_up = threading.Event()

    class Leaving(Unwilling):
        def check(self, grammar: str, already: str = "") -> str:
            if grammar != LEAST:
                given_up.set()
            return super().check(grammar, already)

    grammars = Leaving()
    tools = tuple(ToolSpec(f"t{n}", "", {"properties": {"wanted": {}}}) for n in range(9))
    request = ChatRequest("m", (), (Message("user", (Text("Hi"),)),), Sampling(9), tools)
    with pytest.raises(Abandoned):
        run_until(given_up, lambda: plan_constraint(request, FORM, grammars))
    assert grammars.n_tried == 1
