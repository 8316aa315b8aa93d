"""`mlxdeck serve` with a scripted engine: all that stands behind an engine is the real thing."""

from __future__ import annotations

import os
import sys

from mlxdeck.cli.main import main
from mlxdeck.server import launch
from mlxdeck.server.config.settings import Settings
from tests.scripted.engine import ScriptedEngine
from tests.scripted.plans import reply


def make_engine(settings: Settings) -> ScriptedEngine:
    """The engine, with what the settings and two variables of its own say."""
    return ScriptedEngine(
        reply,
        settings.model,
        chunk_tokens=settings.prefill_chunk_tokens,
        context_tokens=settings.context_tokens or 131_072,
        hang_s=float(os.environ.get("SCRIPTED_HANG_S", "0")),
        is_held=os.environ.get("SCRIPTED_HELD") != "no",
    )


if __name__ == "__main__":
    launch.make_engine = make_engine
    sys.exit(main())
