"""What the real Claude Code writes down of its work agrees with what the server records of it."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlxdeck.telemetry.schema.figures import OK
from mlxdeck.telemetry.store.store import Store
from tests.real import serving
from tests.scripted.day import PROGRAM, Desk
from tests.streams import read_streams

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

FIGURES = ("input_tokens", "cached_tokens", "output_tokens", "n_tool_calls")
MAX_APART_S = 2.0
"""Between the server's time and the client's, which sets up a connection."""


def answers(store: Store) -> Mapping[tuple[str, str], list[list[float]]]:
    """Figures and times of good answers, by session and agent, in the order of their starts."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in store.by_start.rows.tolist():
        if store.column("outcome")[row] == OK:
            told = [float(store.column(name)[row]) for name in (*FIGURES, "duration_s")]
            who = (store.text("session", row), store.text("agent", row))
            found.setdefault(who, []).append(told)
    return found


def test_transcripts_agree_with_the_server(tmp_path: Path) -> None:
    """Each answer's tokens and calls, of the main agent and of those that it starts."""
    desk = Desk(tmp_path / "desk", random.Random(1))
    desk.folder.mkdir()
    told = ("--model", "scripted-30b", "--tool-format", "json_tags")
    with serving(*told, home=tmp_path / "server", program=PROGRAM) as server:
        desk.work(server.url, "feature-1", "explore-1", "nested-1")
        time.sleep(1.5)
    recorded = answers(read_streams([tmp_path / "server" / "telemetry"]))
    written = answers(read_streams([desk.folder / "home" / ".claude"]))
    assert recorded.keys() == written.keys() and len(recorded) > 6
    for who, ours in recorded.items():
        theirs = written[who]
        assert [each[:-1] for each in ours] == [each[:-1] for each in theirs]
        for (*_, our_s), (*_, their_s) in zip(ours, theirs, strict=True):
            assert math.isclose(our_s, their_s, abs_tol=MAX_APART_S)
