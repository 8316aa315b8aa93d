"""`make bench`: every part and row is there, figures are read again, verdicts are right."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bench import figures
from tests.bench.__main__ import document, main, run, summary
from tests.bench.figures import LIMIT, OURS, VARIABLE, absent, figure, results
from tests.bench.parts import PARTS
from tests.bench.rows import ROWS, Row


def functions(module: str) -> set[str]:
    """Names of a module's functions, without its import, which may load MLX."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", PARTS)
def test_part_is_a_function(name: str) -> None:
    """Of a module that is there."""
    module, _, function = PARTS[name].partition(":")
    assert function in functions(module)


def test_each_row_has_a_part_that_reports_it() -> None:
    """And no part reports what is no row; budgets can be read."""
    assert {row.part for row in ROWS.values()} <= PARTS.keys()
    for row in ROWS.values():
        assert not row.budget or row.meets(float(row.budget.split()[1])) in (True, False)
        assert row.name in ROWS and row.shown(1.0)


@pytest.mark.parametrize(
    ("budget", "good", "bad"), [("<= 1.05", 1.05, 1.06), (">= 4", 4.0, 3.9), ("= 1", 1.0, 2.0)]
)
def test_budget_is_met_up_to_its_limit(budget: str, good: float, bad: float) -> None:
    """In each direction."""
    row = Row("x", "y", "z", "x", budget)
    assert row.meets(good) and not row.meets(bad)


def test_figures_are_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Medians of several, peers and limits beside ours, and why something is lacking."""
    file = tmp_path / "figures"
    rows = (Row("a", "one", "first", "x", "<= 2"), Row("b", "one", "second", "%", ">= 0.9"),
            Row("c", "one", "third", "ms"), Row("d", "two", "fourth", "s"))  # fmt: skip
    monkeypatch.setattr(figures, "ROWS", {row.name: row for row in rows})
    monkeypatch.setenv(VARIABLE, str(file))
    for value in (9.0, 1.5, 1.0):
        figure("a", value)
    figure("a", 3.0, "peer")
    figure("a", 1.0, LIMIT)
    figure("b", 0.5)
    absent("b", "not on PATH", "peer")
    absent("c", "no Mac")
    found = list(results(file.read_text().splitlines(), ["one"]))
    assert [each.verdict for each in found] == ["met", "missed", "no Mac"]
    assert found[0].values == {OURS: 1.5, "peer": 3.0, LIMIT: 1.0}
    lines = summary(found, ["one"])
    assert "1.50 x" in lines[0] and "peer 3 x; limit 1 x" in lines[0]
    assert "50.0%" in lines[1] and "peer: not on PATH" in lines[1]
    assert lines[3] == "1 met, 1 missed, 1 not measured"
    told = document(found, {"one": 1.0}, ["one"])
    assert json.loads(json.dumps(told))["rows"][0]["figures"][OURS] == 1.5
    assert "first" in capsys.readouterr().out


def test_part_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others run on; an unknown name is refused before anything runs."""
    monkeypatch.setitem(PARTS, "none", "tests.bench.nowhere:nothing")
    took_s, failed = run(["none"], tmp_path / "figures")
    assert failed == ["none"] and took_s["none"] > 0
    with pytest.raises(SystemExit):
        main(["unknown"])
