"""Events of models that are unloaded and loaded again, from what a server says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxdeck.server.load import ModelState
from mlxdeck.telemetry.schema import events as t

DIGITS = 6
"""Of seconds."""


class ModelChanges:
    """Compares each model with how it was at the last look."""

    def __init__(self) -> None:
        self._last: dict[str, ModelState] = {}

    def since(self, models: Iterable[ModelState]) -> Iterator[t.Attrs]:
        """What has happened to each. Of several loads since the last look, the newest is told."""
        for model in models:
            last = self._last.get(model.name, ModelState(model.name))
            self._last[model.name] = model
            if model.n_unloads > last.n_unloads:
                yield t.ModelUnload(model=model.name, freed_bytes=model.freed_bytes)
            if model.n_failed > last.n_failed:
                yield t.ModelLoad(model=model.name, outcome="error", message=model.failure)
            if model.n_loads > last.n_loads:
                yield t.ModelLoad(model=model.name, duration_s=round(model.load_s, DIGITS))
