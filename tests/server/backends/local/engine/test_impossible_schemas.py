"""Schemas of answers that nothing conforms to, or to a part of which nothing does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.engine.mlx.grammars import MlxGrammars
from mlxdeck.server.backends.local.toolcalls.constraints.constraint_plan import (
    ANSWER,
    ConstraintPlan,
    plan_constraint,
)
from mlxdeck.server.backends.local.toolcalls.formats.registry import FORMATS
from mlxdeck.server.chat import ChatRequest, Message, Sampling, Text
from mlxdeck.server.errors import BadRequest
from tests.server.backends.local.engine.test_mlx_held import tiny

GRAMMARS = MlxGrammars(tiny(special=False))
IMPOSSIBLE: dict[str, Any] = {
    "bounds": {"type": "integer", "minimum": 5, "maximum": 1},
    "pattern": {"type": "string", "pattern": "^a$", "minLength": 3},
    "lengths": {"type": "array", "items": {}, "minItems": 3, "maxItems": 1},
    "types": {"allOf": [{"type": "integer"}, {"type": "string"}]},
    "choices": {"type": "integer", "enum": ["a"]},
}
OPTIONAL: dict[str, Any] = {"a": {}, "b": {"type": "boolean"}}


def planned(schema: dict[str, Any]) -> ConstraintPlan:
    """What an answer of that schema is held to."""
    asked = (Message("user", (Text("Hi"),)),)
    request = ChatRequest("m", (), asked, Sampling(9), answer_schema=schema, answer_field="p")
    return plan_constraint(request, FORMATS["json_tags"], GRAMMARS)


def requiring(told: Any, *names: str) -> dict[str, Any]:
    """An object with a property of that schema."""
    return {"type": "object", "properties": OPTIONAL | {"a": told}, "required": list(names)}


@pytest.mark.parametrize("told", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_nothing_conforms_to_is_refused(told: dict[str, Any]) -> None:
    """By itself, as what must be there, by reference, and as one of several conditions."""
    shared = {"$defs": {"x": told}, "$ref": "#/$defs/x"}
    for schema in (told, requiring(told, "a"), shared, {"allOf": [told]}):
        with pytest.raises(BadRequest, match="p: no value conforms to it: "):
            planned(schema)


@pytest.mark.parametrize("told", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_something_conforms_to_is_answered(told: dict[str, Any]) -> None:
    """Nothing conforms to a part, which a value can do without."""
    ways = [told, {"type": "boolean"}]
    for schema in (
        {"anyOf": ways},
        {"anyOf": [{"$ref": "#/$defs/x"}, ways[1]], "$defs": {"x": told}},
        {"type": "array", "items": told},
        requiring(told, "b"),
        requiring({}, "b") | {"additionalProperties": told},
        requiring(told, "c") | {"patternProperties": {"^c": {}}, "additionalProperties": False},
    ):
        assert planned(schema).constraint is not None


@settings(max_examples=60)
@given(
    st.decimals(-1000, 1000, places=2).map(float) | st.floats(-1e17, 1e17),
    st.sampled_from([0, 1e-12, 1e-9, 3e-9, 1e-6, 1]),
    st.booleans(),
)
def test_a_number_within_any_bounds_is_answered(low: float, width: float, open_: bool) -> None:
    """However close or far they are: bounds of our own leave something between them."""
    high = low + width
    is_open = open_ and high - low > 1e-12
    names = ("exclusiveMinimum", "exclusiveMaximum") if is_open else ("minimum", "maximum")
    told = dict(zip(names, (low, high), strict=True))
    for more in ({}, {"minimum": low - 1, "maximum": high + 1} if is_open else {}):
        planned({"type": "number", **told, **more})


@pytest.mark.parametrize("number", [0.03, 0.3, 1, -2])
def test_a_number_that_is_named_elsewhere_is_answered(number: float) -> None:
    """It need not be a multiple of the step of our own, as an engine reckons that."""
    chosen: dict[str, Any] = {"enum": [number]}
    for more in ({"allOf": [chosen]}, {"anyOf": [chosen, {"type": "null"}]}, {"$ref": "#/$defs/x"}):
        told = {"type": "number", "maximum": 1.5, **more, "$defs": {"x": chosen}}
        assert not planned(told).loose


@pytest.mark.parametrize(
    "told",
    [
        {"type": "number", "multipleOf": 0.1, "minimum": 0.3, "maximum": 0.3},
        {"type": "integer", "minimum": 10**19, "maximum": 10**20},
    ],
)
def test_what_an_engine_cannot_reckon_with_is_not_called_impossible(told: dict[str, Any]) -> None:
    """Its numbers are those of a machine, rounded and of limited size."""
    assert "nothing conforms to a part of it" in planned(told).loose[ANSWER]


@pytest.mark.parametrize("never", [False, {"not": {}}], ids=["false", "not"])
def test_an_alternative_that_says_never_is_none(never: Any) -> None:
    """The others are held to in full."""
    assert planned({"anyOf": [never, {"type": "boolean"}]}) == planned(
        {"anyOf": [{"type": "boolean"}]}
    )
