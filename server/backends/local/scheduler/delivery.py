"""What the engine thread hands over, and to whom."""

from __future__ import annotations

from typing import Protocol

from mlxdeck.server.backends.local.scheduler.sequence import Chunk, Sequence
from mlxdeck.server.errors import ServerError

Parcel = tuple[Sequence, Chunk | ServerError]


class Told(Protocol):
    """The receiver of the thread's results. Called on the engine thread."""

    def deliver(self, parcels: list[Parcel]) -> None:
        """Pass on the results of sequences."""

    @property
    def n_expected(self) -> int:
        """How many sequences are being prepared."""
