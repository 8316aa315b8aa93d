"""Alerts on their way out, on a thread of their own: nothing here waits for them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread

import msgspec

from mlxdeck.telemetry.alerts.deliveries import Delivery, DeliveryFailed
from mlxdeck.telemetry.alerts.watch import Alert
from mlxdeck.telemetry.analyze.sentences import counted
from mlxdeck.telemetry.control_characters import shown
from mlxdeck.telemetry.redact import redacted_text

MAX_WAITING = 32
MAX_TEXT = 300
"""Characters of an alert's text; clients choose names in it."""
CLOSE_S = 1.0


def body(alert: Alert, ts: float, file: Path | None) -> bytes:
    """The JSON object that a hook gets. No content of requests is in it."""
    when = datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode(
        {
            "kind": "threshold" if alert.limit is not None else "finding",
            "name": alert.name,
            "text": redacted_text(shown(alert.text))[:MAX_TEXT],
            "value": alert.value,
            "limit": alert.limit,
            "when": when.replace("+00:00", "Z"),
            "n_requests": alert.n_requests,
            "file": str(file) if file else None,
        }
    )


class AlertHooks:
    """Hands alerts to each delivery, one after another. `fire` and `close` are for one thread."""

    def __init__(
        self,
        ways: Sequence[Delivery],
        tell: Callable[[str], object],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`tell` gets the first failure of each way; it may be called on the hooks' thread."""
        self._ways = ways
        self._tell = tell
        self._waiting: queue.Queue[bytes | None] = queue.Queue(max_waiting)
        self._closed = Event()
        self._lock = Lock()
        self._told: set[str] = set()
        self.n_failed = 0
        """Deliveries that failed, and alerts for which there was no room."""
        self._thread = Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def fire(self, alert: Alert, ts: float, file: Path | None) -> None:
        """Have an alert delivered. Never waits: where too many wait already, it is counted."""
        try:
            self._waiting.put_nowait(body(alert, ts, file))
        except queue.Full:
            self._failed("alerts", f"more than {self._waiting.maxsize} wait to be delivered")

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Give what waits a moment, then leave the rest and kill what runs."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._closed.set()
        self._thread.join(wait_s)
        self._closed.set()
        for way in self._ways:
            way.stop()

    @property
    def losses(self) -> str:
        """How many alerts didn't arrive, as a sentence; empty if all did."""
        return f"{counted(self.n_failed, 'alert')} not delivered" if self.n_failed else ""

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None and not self._closed.is_set():
            for way in self._ways:
                try:
                    way.deliver(waiting)
                except DeliveryFailed as error:
                    self._failed(way.title, str(error))
                except Exception as error:  # noqa: BLE001 - the thread's edge: the next one goes out
                    self._failed(way.title, f"{type(error).__name__}, a bug of ours")

    def _failed(self, what: str, why: str) -> None:
        with self._lock:
            self.n_failed += 1
            is_first = what not in self._told
            self._told.add(what)
        if is_first and not self._closed.is_set():
            self._tell(f"{what}: {why}")
