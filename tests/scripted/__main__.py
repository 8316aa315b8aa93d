"""`mlxdeck serve` with a scripted engine: all that stands behind an engine is the real thing."""

from __future__ import annotations

import os
import sys

from mlxdeck.cli.main import main
from mlxdeck.server import launch
from mlxdeck.server.config.settings import Settings
from tests.scripted import plans, shop
from tests.scripted.engine import ScriptedEngine

SCRIPTS = {"day": plans.reply, "shop": shop.reply}


def make_engine(settings: Settings) -> ScriptedEngine:
    """The engine, with what the settings and some variables of its own say."""
    read_per_s, write_per_s = os.environ.get("SCRIPTED_TOKENS_PER_S", "9000 160").split()
    return ScriptedEngine(
        SCRIPTS[os.environ.get("SCRIPTED_SCRIPT", "day")],
        settings.model,
        prefill_tokens_per_s=float(read_per_s),
        decode_tokens_per_s=float(write_per_s),
        chunk_tokens=settings.prefill_chunk_tokens,
        context_tokens=settings.context_tokens or 131_072,
        hang_s=float(os.environ.get("SCRIPTED_HANG_S", "0")),
        is_held=os.environ.get("SCRIPTED_HELD") != "no",
    )


if __name__ == "__main__":
    launch.make_engine = make_engine
    sys.exit(main())
