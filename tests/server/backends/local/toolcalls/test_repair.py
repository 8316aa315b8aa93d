"""What is mended in the JSON of a call, and what is not made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdeck.server.backends.local.toolcalls.reading.repair import coerced
from mlxdeck.server.lenient_json import decode_first
from mlxdeck.server.schemas.validation import conforms

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)

MENDED = {
    "single quotes": ("{'a': 'it\\'s'}", {"a": "it's"}),
    "quotes within quotes": ("{'a': 'say \"x\"'}", {"a": 'say "x"'}),
    "a trailing comma": ('{"a": [1, 2, ],\n}', {"a": [1, 2]}),
    "a raw line break": ('{"a": "one\ntwo\tthree"}', {"a": "one\ntwo\tthree"}),
    "Python's literals": ('{"a": True, "b": [None, False]}', {"a": True, "b": [None, False]}),
    "words in strings stay": ("{'a': 'True, None, [1,]'}", {"a": "True, None, [1,]"}),
    "an escape that JSON lacks": (r'{"a": "\d+\.txt"}', {"a": r"\d+\.txt"}),
}
BROKEN = ['{"a": 1', '{"a": "x', "{'a': ", '{"a" 1}', "{a: 1}", "no JSON", "", "[1, 2", "{]"]


@pytest.mark.parametrize(("text", "value"), MENDED.values(), ids=MENDED)
def test_what_models_get_wrong_is_mended(text: str, value: Any) -> None:
    """And said to be; what follows the value is left alone."""
    assert decode_first(text + " and more") == (value, len(text), True)


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_cut_off_or_nonsense_stays_an_error(text: str) -> None:
    """Nothing is made up."""
    with pytest.raises(ValueError, match=r".+"):
        decode_first(text)


@given(VALUES)
def test_right_json_is_never_touched(value: Any) -> None:
    """Whatever it holds, it comes back as it was."""
    text = json.dumps(value)
    assert decode_first(text) == (value, len(text), False)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), VALUES, min_size=1), st.data())
def test_a_part_of_an_object_never_becomes_one(value: Any, data: st.DataObject) -> None:
    """Cut anywhere, it is an error."""
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match=r".*"):
        decode_first(text[:cut])


@given(st.text())
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    """Never another exception."""
    try:
        decode_first(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "boolean"}, "True", True),
        ({"type": "array"}, "['a', 'b']", ["a", "b"]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"type": "string"}, 12, "12"),
        # What doesn't fit, or fits already, stays.
        ({"type": "integer"}, "three", "three"),
        ({"type": "integer"}, "3 apples", "3 apples"),
        ({"type": "integer"}, "2.5", "2.5"),
        ({"type": ["string", "integer"]}, "3", "3"),
        ({"type": "string"}, "3", "3"),
        ({"type": "string"}, True, True),
        ({}, "3", "3"),
        (True, "3", "3"),
    ],
)
def test_values_are_fitted_to_the_schema(schema: Any, value: Any, expected: Any) -> None:
    """Also deep inside objects and arrays."""
    assert coerced(value, schema) == expected
    assert type(coerced(value, schema)) is type(expected)
    assert coerced([value], {"items": schema}) == [expected]
    assert coerced({"a": value}, {"properties": {"a": schema}}) == {"a": expected}


@pytest.mark.parametrize(
    "schema", [{"type": 7}, {"$ref": "http://127.0.0.1:9/schema.json"}, {"$ref": "#/nowhere"}]
)
def test_a_schema_that_cant_be_judged_by_is_said_to_be_none(schema: Any) -> None:
    """And nothing is fetched for it."""
    assert conforms({}, schema) is None
