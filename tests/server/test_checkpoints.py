"""Work that ends once nobody waits for it."""

from __future__ import annotations

import threading

import pytest

from mlxdeck.server.checkpoints import Abandoned, checkpoint, run_until


def test_work_goes_on_while_somebody_waits() -> None:
    """Also where nobody said who."""
    checkpoint()
    assert run_until(threading.Event(), lambda: checkpoint() or "done") == "done"


def test_work_ends_at_its_next_checkpoint() -> None:
    """And is not begun at all if nobody waits by then."""
    given_up, steps = threading.Event(), list[str]()

    def work() -> None:
        steps.append("first")
        checkpoint()
        given_up.set()
        steps.append("second")
        checkpoint()
        steps.append("third")

    for _ in range(2):
        with pytest.raises(Abandoned):
            run_until(given_up, work)
    assert steps == ["first", "second"]
    checkpoint()
