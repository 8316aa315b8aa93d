"""Handlers of signals for the time of a block. Light, as every command imports it first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def leave_at_once(number: int, _: FrameType | None = None) -> None:
    """End the process with a shell's status for a signal, and no word about it."""
    os._exit(128 + number)


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """Let Ctrl+C end the process at once: there is nothing to be saved while modules are imported.

    A `KeyboardInterrupt` in the middle of an import can come out as any other error.
    """
    with handled({signal.SIGINT: leave_at_once}):
        yield


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Let Ctrl+C raise `KeyboardInterrupt` inside the block, which is Python's default."""
    with handled({signal.SIGINT: signal.default_int_handler}):
        yield


@contextmanager
def handled(handlers: dict[signal.Signals, Callable[..., None]]) -> Iterator[None]:
    """Set handlers, and restore the old ones. Only the main thread can; other threads skip this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
