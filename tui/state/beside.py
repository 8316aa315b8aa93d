"""What the dashboard has to know of the server whose streams it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlxdeck.telemetry.mirror.mirror import Mirror


@dataclass(frozen=True, slots=True)
class Beside:
    """A server that was started, found or named; by default, nothing is known of it."""

    unrecorded: bool = False
    """Whether it has its telemetry turned off."""
    mirrors: Sequence[Mirror] = ()
    """They fill some of the folders with the streams of servers elsewhere."""
    notes: Sequence[str] = ()
    """What the user should be told of it."""
    count_running: Callable[[], int] | None = None
    """Asks it how many requests it has, where it ends with the dashboard. Blocks."""
