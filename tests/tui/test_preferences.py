"""What is remembered from one time to the next."""

from __future__ import annotations

from pathlib import Path

from mlxdeck.tui.state.preferences import MAX_FILTERS, Preferences, recall, remember


def test_ways_are_remembered(tmp_path: Path) -> None:
    """In a file that only the user can read."""
    path = tmp_path / "home" / "dashboard.json"
    ways = Preferences(window="1h", theme="textual-light", hidden=["hits"])
    for n in range(MAX_FILTERS + 5):
        ways.used(f"tool:{n}")
    ways.used("tool:9")
    remember(path, ways)
    assert recall(path) == ways
    assert ways.filters[0] == "tool:9" and len(ways.filters) == MAX_FILTERS
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_dashboards_keep_their_filters(tmp_path: Path) -> None:
    """What the other one kept is added, and what was forgotten stays so."""
    path = tmp_path / "dashboard.json"
    remember(path, Preferences(kept={"slow": "latency>9s", "old": "tool:Read"}))
    one, other = recall(path), recall(path)
    one.kept["mine"] = "status:ok"
    del one.kept["old"]
    remember(path, one)
    other.kept["theirs"] = "status:error"
    del other.kept["old"]
    remember(path, other)
    assert recall(path).kept.keys() == {"slow", "mine", "theirs"}
    assert other.kept.keys() == {"slow", "mine", "theirs"}


def test_what_cannot_be_remembered_is_forgotten(tmp_path: Path) -> None:
    """A broken file, a wrong type, no file, no folder to write to."""
    path = tmp_path / "dashboard.json"
    for text in ("{", '{"window": 7, "filters": "x", "hidden": [1]}', "[]"):
        path.write_text(text)
        assert recall(path).window == "5m" and recall(path).filters == []
    assert recall(None) == Preferences()
    remember(None, Preferences())
    path.write_text("")
    remember(path / "below" / "x.json", Preferences())
