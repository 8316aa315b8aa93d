"""The dashboard over recordings, as text: some pictures of `make shots`, cell by cell.

MLXDECK_TEST_UPDATE=1 writes the golden files anew, to be read before they are committed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shots import SHOTS, Shot, shown

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("MLXDECK_TEST_UPDATE"))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are those of the place where one is."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NAMES = ("dashboard", "dashboard-80x24", "dashboard-250x60", "request", "sessions", "compare")
"""Other pictures, also in other themes, are made of the same texts."""
SHOWN = [shot for shot in SHOTS if shot.name in NAMES]


@pytest.mark.parametrize("shot", SHOWN, ids=lambda shot: shot.name)
async def test_the_screen_is_what_it_was(shot: Shot) -> None:
    """At three sizes and on each screen."""
    async with shown(shot) as app:
        strips = app.screen._compositor.render_strips()
    lines = [strip.text.rstrip() for strip in strips]
    assert len(lines) == shot.size[1]
    assert all(strip.cell_length <= shot.size[0] for strip in strips)
    compare(GOLDEN / f"{shot.name}.txt", "\n".join(lines) + "\n")


def compare(path: Path, got: str) -> None:
    """Compare with a golden file, or write it."""
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(got, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == got
