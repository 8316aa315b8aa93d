"""Whether values conform, judged within a budget."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlxdeck.server.schemas.loosening import unavoidable
from mlxdeck.server.schemas.validation import _KEYWORDS, MAX_STEPS, Judge, conforms

DEEP = {
    "$defs": {
        **{
            f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
            for n in range(40)
        },
        "d40": {"type": "string"},
    },
    "$ref": "#/$defs/d0",
}


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ({"a": 1}, {"properties": {"a": {"type": "integer"}}}, True),
        ({"a": "x"}, {"properties": {"a": {"type": "integer"}}}, False),
        ("ab-c", {"pattern": "^[a-z]+-[a-z]+$"}, True),
        ("abc", {"pattern": "^[a-z]+-[a-z]+$"}, False),
        ("x", {"type": "nonsense"}, None),
        ("x", {"$ref": "https://a.b/c"}, None),
        ("x", {"pattern": "("}, None),
        ("x", "no schema", None),
    ],
)
def test_values_are_judged(value: Any, schema: Any, expected: bool | None) -> None:
    """Unless the schema can't be judged by."""
    assert conforms(value, schema) is expected


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "^(a*)*$", "a*a*a*a*a*a*b", r"^(\w|ab)*$"]
)
def test_patterns_that_could_take_for_ever_are_run_in_linear_time(pattern: str) -> None:
    """Whatever the text; what they don't match isn't matched."""
    assert conforms("a" * 10_000 + "!", {"pattern": pattern}) is False
    name = "a" * 64 + "!"
    others = {"patternProperties": {pattern: {}}, "additionalProperties": False}
    assert conforms({name: 1}, others) is False


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("aa", {"pattern": "^(?=a)a"}),
        ("aa", {"pattern": r"(a)\1"}),
        ("a" * 1_000_000, {"pattern": "^(.*a){300}$"}),
        ("a", {"pattern": "a" * 5_000}),
        ({"a": 1}, {"unevaluatedProperties": False}),
        ({"a": 1}, {"$ref": "#/x", "x": {"$ref": "#/x"}}),
        (list(range(100_000)), {"items": {"type": "integer"}}),
        ([{"n": n} for n in range(1_000)], {"uniqueItems": True}),
    ],
)
def test_what_costs_too_much_or_is_not_known_is_not_judged(value: Any, schema: Any) -> None:
    """Rather than judged wrongly, or for long."""
    assert conforms(value, schema) is None


def test_classes_and_escapes_of_unicode_mean_what_they_mean_in_json_schema() -> None:
    """Python's expressions know neither the classes nor the escapes."""
    assert conforms("é9", {"pattern": r"^\u00e9\p{Nd}$"}) is True
    assert conforms("e9", {"pattern": r"^\u00e9\p{Nd}$"}) is False
    # Half of a pair is no character; it stands for any that isn't known.
    assert conforms("\ud800", {"pattern": "^.$"}) is True


def test_references_that_multiply_are_followed_once() -> None:
    """A trillion ways, in a schema of forty lines: each part of it is judged once."""
    judge = Judge(DEEP)
    assert judge.holds(5, DEEP) is False
    assert MAX_STEPS - judge.left < 500


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", 0.5, 2.0])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
COUNTS = st.integers(0, 3)
NUMBERS = st.sampled_from([-1, 0, 0.5, 1, 2])
KINDS = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def schemas() -> st.SearchStrategy[Any]:
    """Schemas of every keyword that is judged by."""
    return st.recursive(st.booleans() | st.just({}), _schema, max_leaves=8)


def _schema(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    names = st.lists(st.sampled_from("abc"), unique=True, max_size=2)
    listed = st.lists(inner, min_size=1, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": KINDS | st.lists(KINDS, unique=True, min_size=1, max_size=3),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "properties": named,
        "required": names,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b", "."]), inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "dependentRequired": st.dictionaries(st.sampled_from("abc"), names, max_size=2),
        "dependentSchemas": named,
        "prefixItems": listed,
        "items": inner,
        "contains": inner,
        "uniqueItems": st.booleans(),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "pattern": st.sampled_from(["^a", "b$", "^$"]),
        **dict.fromkeys(("anyOf", "allOf", "oneOf"), listed),
        **dict.fromkeys(("not", "if", "then", "else"), inner),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS),
        **dict.fromkeys(
            ("minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength",
             "minContains", "maxContains"), COUNTS),
    }  # fmt: skip
    return st.lists(st.sampled_from(sorted(keywords)), unique=True, max_size=3).flatmap(
        lambda chosen: st.fixed_dictionaries({name: keywords[name] for name in chosen})
    )


@settings(max_examples=300, deadline=None)
@given(VALUES, schemas())
def test_values_are_judged_as_the_library_does(value: Any, schema: Any) -> None:
    """Whatever the schema, as long as it is one."""
    assert conforms(value, schema) is Draft202012Validator(schema).is_valid(value)


@settings(max_examples=300, deadline=None)
@given(VALUES, schemas())
def test_what_conforms_to_a_schema_conforms_to_what_is_unavoidable_in_it(
    value: Any, schema: Any
) -> None:
    """So nothing conforms to a schema if nothing does to that."""
    assert conforms(value, unavoidable(schema)) or not conforms(value, schema)


ODD: list[Any] = [
    *(None, True, False, 0, 0.0, 1, -1, 0.5, 5e-324, 1e308, 10**400, math.nan, math.inf),
    *("", "a", "(", "#", "#/properties/a", [], [None], [0], ["a"], [{}], [[]], {}, {"a": 0}),
    *({"a": {}}, {"(": {}}, {"a": ["b"]}, {"$ref": "#"}),
]


@pytest.mark.parametrize("keyword", sorted(_KEYWORDS))
def test_what_is_no_schema_judges_nothing(keyword: str) -> None:
    """Whatever stands at a keyword: clients send it, and no answer may fail of it."""
    for told, value in product(ODD, ODD):
        assert conforms({"a": value}, {"properties": {"a": {keyword: told}}}) in (True, False, None)
