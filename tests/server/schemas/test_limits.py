"""What schemas may come to, and what is done about those that are more."""

from __future__ import annotations

from typing import Any

import pytest

from mlxdeck.server.errors import BadRequest
from mlxdeck.server.schemas import branches
from mlxdeck.server.schemas.branches import MAX_VISITS, Branches
from mlxdeck.server.schemas.limits import too_costly, too_large
from mlxdeck.server.schemas.normalization import answer_schema, tool_schema
from mlxdeck.server.schemas.shape import Schema
from tests.hostile import PATTERNS, SCHEMAS, doubling, with_


@pytest.mark.parametrize(
    ("told", "place", "limit"),
    [
        (with_({"type": "string", "pattern": "x" * 5_000}), "p.properties.a.pattern", "4,096"),
        ({"properties": {f"p{n}": {} for n in range(1_001)}}, "p.properties", "1,000 properties"),
        (with_({"enum": list(range(30_000))}), "p", "20,000 parts"),
        (with_({"enum": ["x" * 600_000]}), "p", "500,000 characters"),
    ],
)
def test_the_schema_of_an_answer_has_limits_that_are_named(
    told: dict[str, Any], place: str, limit: str
) -> None:
    """And so is the place; the same schema of a tool is read."""
    with pytest.raises(BadRequest) as refused:
        answer_schema(told, "p")
    assert refused.value.path == place
    assert limit in refused.value.message
    assert tool_schema(told, "p")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_costly_schema_is_read_or_refused_by_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an answer's; as a tool's it is read, and looked at in a number of visits."""
    visits = 0
    visit = Branches.of

    def counted(self: Branches, told: Any, depth: int) -> list[dict[str, Any]]:
        nonlocal visits
        visits += 1
        return visit(self, told, depth)

    monkeypatch.setattr(branches.Branches, "of", counted)
    schema = Schema.of(tool_schema(SCHEMAS[name], "p"))
    assert schema.kinds
    # What is beyond the last visit is still asked for, but not gone into.
    assert visits <= 70 * MAX_VISITS
    try:
        answer_schema(SCHEMAS[name], "p")
    except BadRequest as error:
        assert error.path.startswith("p")


def test_choices_are_told_apart_in_linear_time() -> None:
    """Twenty thousand of them, some twice; true is not one."""
    listed = [*range(20_000), True, 5, "5", 5.0]
    assert Schema.of({"enum": listed}).choices == [*range(20_000), True, "5"]
    both = {"allOf": [{"enum": listed}, {"enum": listed[::-1]}]}
    assert len(Schema.of(both).choices or ()) >= 20_000


def test_what_is_known_to_cost_too_much_is_not_tried() -> None:
    """By size or by keyword; ordinary schemas are."""
    assert "500 properties" in too_large(SCHEMAS["3,000 properties"])
    assert "10,000 parts" in too_large(SCHEMAS["enum of 20,000"])
    assert "4,096" in too_costly(with_({"pattern": PATTERNS[10]}))
    assert "1,000" in too_costly(with_({"multipleOf": 999_983}))
    for fine in (doubling(40), with_({"multipleOf": 0.5}), SCHEMAS["nested 60"]):
        assert not too_large(fine) and not too_costly(fine)
