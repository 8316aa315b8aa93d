"""Where long work on another thread asks whether anybody still waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Abandoned(Exception):
    """Whoever asked has left. Ends work at a checkpoint; nobody is there to see it."""


_given_up: ContextVar[threading.Event | None] = ContextVar("given up", default=None)


def checkpoint() -> None:
    """Go on, unless nobody waits any more.

    Raises:
        Abandoned: Nobody does.
    """
    event = _given_up.get()
    if event is not None and event.is_set():
        raise Abandoned


def run_until(given_up: threading.Event, work: Callable[[], T]) -> T:
    """Do some work that ends at its next checkpoint once the event is set.

    Raises:
        Abandoned: That came first.
    """
    token = _given_up.set(given_up)
    try:
        checkpoint()
        return work()
    finally:
        _given_up.reset(token)
