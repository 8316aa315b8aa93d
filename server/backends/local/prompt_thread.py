"""A thread for tokenizer and template: one for short requests, and one for all others.

The event loop knows the waiting requests, as it does for the engine. If a tokenizer hangs, this is
detected, and each request gets an error. Every exception there becomes a `ServerError`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from mlxdeck.server.backends.local.activity import Activity, StallWatch
from mlxdeck.server.checkpoints import Abandoned
from mlxdeck.server.errors import EngineFailed, ServerError, one_line

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Item = tuple["Future[Any]", Callable[[], Any]]


class PromptThread(Executor):
    """Runs work on one thread, in order. For the event loop."""

    def __init__(
        self, stall_s: float, give_up: Callable[[str], None], name: str = "prompt"
    ) -> None:
        """`give_up` is called if the thread hangs and doesn't come back."""
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._open: set[Future[Any]] = set()
        self._activity = Activity()
        self.watch = StallWatch(self._activity, stall_s, tell=self._fail_all, give_up=give_up)
        # Of all that may hang, nothing must keep the process from ending.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work and to be watched."""
        self._thread.start()
        self.watch.start()

    @property
    def busy(self) -> bool:
        """Whether the thread is at something; it may be anywhere in the library's code."""
        return bool(self._activity.stuck(0.0))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run something on the thread; every exception becomes a `ServerError`.

        Raises:
            EngineFailed: The thread hangs.
        """
        if self.watch.stalled:
            raise EngineFailed(self.watch.stalled)
        future: Future[T] = Future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._items.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread after what it is at, which is not waited for; fail what is left."""
        del wait, cancel_futures
        self.watch.stop()
        self._items.put(None)
        self._fail_all("the server is stopping")

    def _fail_all(self, reason: str) -> None:
        for future in list(self._open):
            with suppress(InvalidStateError):
                future.set_exception(EngineFailed(reason))

    def _main(self) -> None:
        """The prompt thread."""
        while (item := self._items.get()) is not None:
            future, work = item
            if future.done():
                continue
            with self._activity.at("a prompt"):
                self._run(future, work)
            # What is held here while nothing comes is held for long.
            del item, future, work

    def _run(self, future: Future[Any], work: Callable[[], Any]) -> None:
        try:
            result = work()
        except Abandoned:
            # No request waits for it, so that no error is sent when the thread hangs or stops.
            future.cancel()
            return
        except ServerError as error:
            failure: ServerError = error
        # The edge of the thread: it continues after any exception of a template or a tokenizer.
        except BaseException as error:
            log.error("a prompt could not be made", exc_info=error)
            failure = EngineFailed(f"the prompt could not be made: {one_line(error)}")
        else:
            # The request may have left, or may have an error because the thread hangs.
            with suppress(InvalidStateError):
                future.set_result(result)
            return
        with suppress(InvalidStateError):
            future.set_exception(failure)
