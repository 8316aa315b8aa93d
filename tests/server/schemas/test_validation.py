"""Whether values conform, judged within a budget."""

from __future__ import annotations

from typing import Any

import pytest

from mlxdeck.server.schemas.validation import conforms

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
def test_patterns_that_could_take_for_ever_are_not_tried(pattern: str) -> None:
    """Python's expressions step back over every way in which they could match."""
    assert conforms("a" * 64 + "!", {"pattern": pattern}) is None
    assert conforms({"a" * 64 + "!": 1}, {"patternProperties": {pattern: {}}}) is None


def test_references_that_multiply_are_not_followed_to_their_end() -> None:
    """A trillion checks, in a schema of forty lines."""
    assert conforms(5, DEEP) is None
